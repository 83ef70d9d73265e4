"""The simulation: small cases worked out by hand, and the planner."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from bench.load.workload import STEPS
from bench.peers.static import static_batcher
from bench.simulate.curve import CURVES, TickCurve, linear, read_curve
from bench.simulate.engine import Engine
from bench.simulate.fleet import (
    fewest_requests,
    fewest_requests_of_two,
    least_contention,
    least_work,
    simulate,
)
from bench.simulate.outcome import Latencies, Outcome
from bench.simulate.plan import plan
from bench.simulate.plan_table import BEGIN, END, planned_table, write_table
from bench.simulate.planner import main
from bench.simulate.request_batches import request_batches
from bench.simulate.traffic import NO_DEADLINE_S, Request, arrivals, traffic
from bench.suites.simulate import goodput
from service.scheduling.fair import fair_scheduler

EVEN = TickCurve("even", 4, ((1, 1.0), (4, 1.0)))
"""A tick takes a second, whatever its rows: 4 at most."""


def request(
    number: int, at: float, steps: int, timeout_s: float = NO_DEADLINE_S, images: int = 1
) -> Request:
    return Request(number, at, (2,) * steps, timeout_s, images)


def ends(outcomes: list[Outcome]) -> list[float | None]:
    return [each.ended for each in outcomes]


def test_seconds_lie_on_the_curve_and_go_on_as_its_last_part_does() -> None:
    curve = TickCurve("a", 8, ((2, 1.0), (4, 2.0), (8, 6.0)))
    assert [curve.seconds(rows) for rows in (1, 2, 3, 4, 6, 8, 10)] == [1, 1, 1.5, 2, 4, 6, 8]
    assert linear("b", 32, 1.0, 0.5).seconds(32) == 17.0
    assert curve.row_steps_per_s == pytest.approx(8 / 6)


def test_who_comes_joins_at_the_next_tick_and_leaves_with_its_last() -> None:
    requests = [request(0, 0.0, 3), request(1, 0.5, 1), request(2, 10.0, 1)]
    assert ends(simulate(EVEN, requests, fair_scheduler)) == [3.0, 2.0, 11.0]


def test_a_static_batch_keeps_the_next_one_waiting() -> None:
    requests = [request(0, 0.0, 3), request(1, 0.5, 1)]
    assert ends(simulate(EVEN, requests, static_batcher)) == [3.0, 4.0]


def test_a_decode_stands_before_the_answer() -> None:
    curve = TickCurve("even", 4, ((1, 1.0), (4, 1.0)), decode_s=0.25)
    assert ends(simulate(curve, [request(0, 0.0, 2)], fair_scheduler)) == [2.25]


def test_a_request_ends_with_the_last_of_its_images() -> None:
    requests = [request(0, 0.0, 3, images=3), request(1, 20.0, 3, images=2)]
    outcomes = simulate(EVEN, requests, fair_scheduler)  # two images a tick, each to its end
    assert ends(outcomes) == [6.0, 23.0]
    assert goodput(EVEN, outcomes) == (18 + 12) / (23.0 * 4)


def test_more_images_make_a_request_come_later_and_the_load_stays() -> None:
    curve = CURVES["h100"]
    one = traffic(curve, STEPS["log-uniform"], 0.8, 400)
    several = traffic(curve, STEPS["log-uniform"], 0.8, 400, images=(1, 4))
    assert {each.images for each in several} == {1, 4}
    assert [each.rows for each in several] == [each.rows for each in one]
    loads = [sum(each.row_steps for each in asked) / asked[-1].at for asked in (one, several)]
    assert loads[1] == pytest.approx(loads[0])


def test_request_batches_wait_for_company_and_end_together() -> None:
    requests = [request(0, 0.0, 3), request(1, 0.2, 1), request(2, 0.3, 1), request(3, 9.0, 1)]
    # Two fill the rows: they begin at 0.2. The third has waited long enough when they end.
    assert ends(request_batches(EVEN, requests, wait_s=0.5)) == [3.2, 3.2, 4.2, 10.5]


def test_a_deadline_that_has_passed_costs_no_more_ticks() -> None:
    requests = [request(0, 0.0, 9, timeout_s=2.5), request(1, 0.5, 1)]
    late, other = simulate(EVEN, requests, fair_scheduler)
    assert (late.ended, late.latency) == (None, 2.5)
    assert other.ended == 2.0


def test_who_is_refused_comes_back_when_it_was_told_to() -> None:
    curve = CURVES["cpu"]
    asked = traffic(curve, STEPS["log-uniform"], 2.0, 200, timeout_s=300.0)
    bound = round(5 * curve.row_steps_per_s)
    outcomes = simulate(curve, asked, fair_scheduler, max_queue_row_steps=bound)
    assert [each.request.number for each in outcomes] == list(range(200))
    assert all(each.ended is not None for each in outcomes)
    assert max(each.tries for each in outcomes) > 1
    assert sum(each.tries <= 2 for each in outcomes) > 0.8 * len(outcomes)


def test_the_router_that_knows_the_work_spares_a_short_request_the_long_ones() -> None:
    """Two engines: one with a long request, one with two short ones."""
    requests = [request(0, 0.0, 100), request(1, 0.1, 2), request(2, 0.2, 2), request(3, 0.3, 2)]
    curve = TickCurve("even", 2, ((1, 1.0), (2, 1.0)))
    by_work = simulate(curve, requests, fair_scheduler, engines=2, route=least_work)
    by_count = simulate(curve, requests, fair_scheduler, engines=2, route=fewest_requests_of_two)
    assert max(each.latency for each in by_work[1:]) < 6.0
    assert by_work[0].latency == 100.0
    assert by_count[0].latency > 100.0


def test_where_a_request_contends_least_depends_on_its_work() -> None:
    """One engine has a long request, the other several short ones."""
    engines = [Engine(EVEN, fair_scheduler) for _ in range(2)]
    engines[0].offer(request(0, 0.0, 500), 0.0)
    for number in range(1, 6):
        engines[1].offer(request(number, 0.0, 10), 0.0)

    def chosen(steps: int, images: int = 1) -> int:
        asked = request(9, 0.0, steps, images=images)
        return engines.index(least_contention(engines, asked, random.Random(0)))

    assert (chosen(5), chosen(400)) == (0, 1)
    assert chosen(5, images=80) == 0  # its images are as short


def test_of_equal_contention_the_least_work_left_decides() -> None:
    engines = [Engine(EVEN, fair_scheduler) for _ in range(2)]
    for engine, steps in zip(engines, (500, 400)):
        engine.offer(request(0, 0.0, steps), 0.0)
    assert least_contention(engines, request(9, 0.0, 5), random.Random(0)) is engines[1]


def test_joining_wins_what_the_design_says() -> None:
    """At the median and in latency over steps; nowhere is it behind by more than a little."""
    curve = CURVES["h100"]
    asked = traffic(curve, STEPS["log-uniform"], 0.8, 1000)
    ours = Latencies.of(simulate(curve, asked, fair_scheduler))
    static = Latencies.of(simulate(curve, asked, static_batcher))
    assert static.p50 > 2.5 * ours.p50
    assert static.per_step > 4 * ours.per_step
    assert static.p99 > 0.9 * ours.p99


def test_the_plan_is_the_fewest_devices_that_keep_the_wish() -> None:
    curve = CURVES["h100"]
    requests = arrivals(60.0, 50, 1000)
    planned = plan(curve, requests, p95_s=0.6)
    assert planned.latencies.p95 <= 0.6
    fewer = simulate(curve, requests, fair_scheduler, engines=planned.devices - 1)
    assert Latencies.of(fewer).p95 > 0.6


def test_the_table_has_a_row_for_each_rate_with_devices_latency_and_hours() -> None:
    header, _, *rows = planned_table(CURVES["h100"], rates=(1, 60), requests=300)
    assert header.startswith("| images/s | 10 steps, p95 1 s |")
    assert rows[0].startswith("| 1 | 1 (")
    assert rows[0].endswith("s, 0.28 h) |")  # an hour of one device makes 3,600 at 1 a second
    assert rows[1].startswith("| 60 | ")


def test_the_table_replaces_what_is_between_its_markers_alone(tmp_path: Path) -> None:
    page = tmp_path / "scaling.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_table(page, ["new"])
    assert page.read_text() == f"before\n{BEGIN}\nnew\n{END}\nafter\n"


def test_without_markers_the_table_gets_a_section_at_the_end(tmp_path: Path) -> None:
    page = tmp_path / "scaling.md"
    page.write_text("# Scaling\n")
    for lines in (["old"], ["new"]):
        write_table(page, lines)
    assert page.read_text() == f"# Scaling\n\n## How many GPUs\n\n{BEGIN}\nnew\n{END}\n"


def test_the_command_needs_a_load_or_the_table() -> None:
    with pytest.raises(SystemExit):
        main(["--rate", "5"])


def test_of_the_fewest_requests_one_is_drawn() -> None:
    requests = [request(number, 0.0, 3) for number in range(4)]
    outcomes = simulate(EVEN, requests, fair_scheduler, engines=4, route=fewest_requests)
    assert ends(outcomes) == [3.0] * 4  # one each


def test_goodput_counts_what_was_delivered_over_what_full_ticks_could_do() -> None:
    asked = [request(0, 0.0, 3), request(1, 0.0, 3), request(2, 0.0, 9, timeout_s=1.0)]
    outcomes = [Outcome(asked[0], 3.0), Outcome(asked[1], 6.0), Outcome(asked[2], None)]
    assert goodput(EVEN, outcomes) == 12 / (6.0 * 4)


def test_a_wish_that_no_number_of_devices_keeps_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rate", "5", "--steps", "50", "--p95", "0.01"]) == 1
    assert "not with any number of devices" in capsys.readouterr().out


def test_a_curve_comes_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"name": "mine", "max_rows": 4, "points": [[1, 0.1], [4, 0.1]]}))
    assert read_curve(str(file)).seconds(3) == 0.1
    assert main(["--rate", "1", "--steps", "5", "--p95", "3", "--curve", str(file)]) == 0
    assert capsys.readouterr().out.startswith("1 x mine: load 0.2")


@pytest.mark.parametrize(
    "content",
    [
        {"name": "a", "max_rows": 4, "points": [[1, 0.1]]},
        {"name": "a", "max_rows": 4, "points": [[4, 0.1], [1, 0.1]]},
        {"name": "a", "points": [[1, 0.1], [4, 0.1]]},
    ],
)
def test_a_file_that_is_no_curve_is_refused(tmp_path: Path, content: object) -> None:
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"points|max_rows"):
        read_curve(str(file))
