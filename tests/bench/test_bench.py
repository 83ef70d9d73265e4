"""The benchmark: what it computes from its measurements, and a small run."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from bench.__main__ import main
from bench.arms.agreement import ArmsDisagree, agreement
from bench.arms.count import Arm as Counter
from bench.arms.models import XL_TICK
from bench.arms.protocol import Answer, ArmSpec, Draw, Probe, Ready, Task
from bench.load.clients import LoadRun, Outcome, RequestsFailed, closed_loop, open_loop
from bench.load.metrics import difference, parse_metrics, rows_per_tick, waste
from bench.load.workload import MIXED_STEPS, Ask, mixed, poisson, steps_log_uniform, uniform
from bench.options import BUNDLED, WORK, Options
from bench.peers.specs import lit_installed
from bench.peers.static import StaticBatcher
from bench.report.figures import (
    Facts,
    Measured,
    Spread,
    SuiteResult,
    Table,
    find_spread,
    percentile,
    read_results,
    write_result,
)
from bench.report.markdown import number
from bench.report.page import render, write_report
from bench.report.targets import TARGETS
from bench.suites.limits import Limit, Work
from bench.suites.rounds import interleaved
from service.metrics import Metrics
from tests.support.jobs import job, step

XL_TRANSFORMER = {
    "sample_size": 32,
    "in_channels": 4,
    "num_attention_heads": 16,
    "attention_head_dim": 72,
    "num_layers": 28,
    "patch_size": 2,
    "num_embeds_ada_norm": 1000,
}
SD_DECODER = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
SLOW_S = 0.05


class SlowServer(BaseHTTPRequestHandler):
    """Answers one request at a time; one for class 9 fails."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(SLOW_S)
        self.send_response(500 if asked["class_label"] == 9 else 200)
        self.send_header("Server-Timing", "queue;dur=1.5, denoise;dur=20.0")
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def slow_server() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), SlowServer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(label: int = 0) -> Ask:
    return Ask(label, 2.0, 5, 1, timeout_s=60.0)


class FakeArm:
    def __init__(self, dtype: str, *latents: float) -> None:
        self.ready = Ready(0.0, dtype, 1)
        self._latents = list(latents)

    def ask(self, task: Task) -> Answer:
        return Answer(1.0, self._latents)


def result(suite: str, figures: dict[str, Spread], model: str = "") -> SuiteResult:
    facts = Facts("today", "cmd", "abc", "box", 2, None, "own", {"torch": "2"}, 0.5, 1.5, 0.1)
    table = Table("a title", ("arm", "s"), (("ours", Spread((1.0, 3.0, 2.0))), ("theirs", None)))
    return SuiteResult(
        suite, "cpu", "rounds 3", facts, Measured(figures, (table,), ("A note.",)), model
    )


def test_arms_take_turns_and_warm_up_rounds_do_not_count() -> None:
    turns: list[str] = []

    def arm(name: str) -> float:
        turns.append(name)
        return float(len(turns))

    seen = interleaved({"a": lambda: arm("a"), "b": lambda: arm("b")}, 2, warm_ups=1)
    assert turns == ["a", "b"] * 3
    assert seen == {"a": Spread((3.0, 5.0)), "b": Spread((4.0, 6.0))}


def test_a_ratio_is_taken_round_by_round() -> None:
    slow, fast = Spread((4.0, 40.0, 9.0)), Spread((2.0, 10.0, 3.0))
    over = slow.over(fast)
    assert (over.median, over.low, over.high) == (3.0, 2.0, 4.0)
    assert fast.rate_of(8).rounds == (4.0, 0.8, 8 / 3)


@pytest.mark.parametrize(("percent", "expected"), [(50, 2.0), (75, 3.0), (95, 4.0), (0, 1.0)])
def test_a_percentile_is_one_of_the_values(percent: float, expected: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], percent) == expected


def test_a_schedule_is_the_same_for_every_arm_and_as_dense_as_asked() -> None:
    asks = mixed(2000, seed=3, timeout_s=60.0, steps=steps_log_uniform)
    schedule = poisson(asks, rate=20.0, seed=3)
    assert schedule == poisson(asks, rate=20.0, seed=3) != poisson(asks, rate=20.0, seed=4)
    times = [at for at, _ in schedule]
    assert times == sorted(times)
    assert times[-1] == pytest.approx(100.0, rel=0.1)
    low, high = MIXED_STEPS
    assert all(low <= one.num_sampling_steps <= high for one in asks)
    assert statistics.median(one.num_sampling_steps for one in asks) == pytest.approx(50, rel=0.1)
    assert {one.sampler for one in asks} == {"ddim", "ddpm", "dpmpp_2m"}
    assert all(1 <= one.cfg_scale <= 8 for one in asks)


def test_latency_counts_from_the_scheduled_time() -> None:
    with slow_server() as url:
        run = open_loop(url, [(0.0, ask())] * 4)
    assert sorted(one.status for one in run.outcomes) == [200] * 4
    assert max(run.latencies()) >= 4 * SLOW_S  # it waited for the three before it
    assert run.outcomes[0].stages == {"queue": 0.0015, "denoise": 0.02}


def test_a_refused_request_counts_as_its_timeout() -> None:
    with slow_server() as url:
        run = open_loop(url, [(0.0, ask()), (0.0, ask(9))])
    assert max(run.latencies()) == 60.0
    assert max(run.latencies_per_step()) == 60.0 / ask().num_sampling_steps
    assert len(run.good) == 1


def test_the_steady_rate_leaves_out_the_start_and_the_end() -> None:
    ends = [9.0, 10.0, *[10.0 + 0.5 * i for i in range(1, 9)], 15.0, 20.0]
    run = LoadRun(tuple(Outcome(ask(), 200, 1.0, end) for end in ends), 12.0, last_sent=14.0)
    assert run.steady_rate(clients=2) == pytest.approx(8 / 4)
    assert run.steady_rate(clients=6) == pytest.approx(12 / 12), "too few requests for six clients"


def test_a_closed_loop_sends_every_request_and_raises_on_failure() -> None:
    with slow_server() as url:
        assert len(closed_loop(url, [ask()] * 5, clients=2).good) == 5
        with pytest.raises(RequestsFailed, match="1 of 3"):
            closed_loop(url, [ask(), ask(9), ask()], clients=2)


def test_counts_are_read_from_the_services_metrics() -> None:
    metrics = Metrics()
    metrics.denoise_steps.labels("useful").inc(6)
    before = parse_metrics(generate_latest(metrics.registry).decode())
    metrics.denoise_steps.labels("useful").inc(6)
    metrics.denoise_steps.labels("padding").inc(1)
    metrics.denoise_steps.labels("cancelled").inc(1)
    for rows in (2, 4):
        metrics.tick_rows.observe(rows)
    seen = difference(parse_metrics(generate_latest(metrics.registry).decode()), before)
    assert waste(seen) == 0.25
    assert rows_per_tick(seen) == 3.0


def test_no_job_joins_a_static_batch_midway() -> None:
    batcher = StaticBatcher(4)
    batcher.add(job("a", [2] * 3))
    batcher.add(job("b", [1] * 1))
    assert [sample.job.id for sample in step(batcher)] == ["a", "b"]
    late = job("c", [1] * 2)
    batcher.add(late)
    assert (batcher.running, batcher.waiting, batcher.ahead_of(late)) == (1, 1, 0)
    assert [[sample.job.id for sample in step(batcher)] for _ in range(4)] == [
        ["a"],
        ["a"],
        ["c"],
        ["c"],
    ]
    assert not batcher.jobs()
    assert batcher.pick() == []


def test_a_static_batch_takes_as_many_images_as_fit_in_order_of_arrival() -> None:
    batcher = StaticBatcher(4)
    first, second = job("a", [2], [2]), job("b", [1])
    batcher.add(first)
    batcher.add(second)
    picked = batcher.pick()
    assert [sample.job.id for sample in picked] == ["a", "a"]
    assert batcher.pick() == picked
    step(batcher)
    assert batcher.drop(second)[0].job is second
    assert not batcher.jobs()


def test_a_static_batch_continues_without_a_dropped_job() -> None:
    batcher = StaticBatcher(4)
    gone = job("a", [1] * 3)
    batcher.add(gone)
    batcher.add(job("b", [1] * 2))
    step(batcher)
    batcher.drop(gone)
    assert [sample.job.id for sample in step(batcher)] == ["b"]
    assert not batcher.jobs()


DRAW = Draw((0,), (0,), 1, 2.0, latents=True)


def test_arms_that_agree_are_listed_with_their_errors() -> None:
    arms = {
        "ours": FakeArm("bfloat16", 3.0, 4.1),
        "ours fp32": FakeArm("float32", 3.0, 4.0001),
        "theirs": FakeArm("float32", 3.0, 4.0),
    }
    table = agreement(arms, "theirs", DRAW)
    assert [row[2] for row in table.rows] == ["2.0e-02", "2.0e-05", "0.0e+00"]


@pytest.mark.parametrize("arm", [FakeArm("float32", 1.001), FakeArm("bfloat16", float("nan"))])
def test_arms_that_disagree_are_not_timed(arm: FakeArm) -> None:
    with pytest.raises(ArmsDisagree, match="ours is off"):
        agreement({"ours": arm, "theirs": FakeArm("float32", 1.0)}, "theirs", DRAW)


def test_work_and_limit_are_the_published_ones(tmp_path: Path) -> None:
    for name, config in (("transformer", XL_TRANSFORMER), ("vae", SD_DECODER)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    counted = Counter(ArmSpec("count", str(tmp_path), "cpu")).do(Probe(0))
    work = Work(*counted.values)
    assert work.row_macs == pytest.approx(118.62e9, rel=1e-3)
    assert work.decoder_macs == pytest.approx(311e9, rel=2e-2)
    assert Limit(work, 790e12).images_per_second(steps=50) == pytest.approx(32.5, rel=1e-2)


def test_arms_inherit_no_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DIT_DTYPE", "OMP_NUM_THREADS", "GOMP_SPINCOUNT", "TORCH_LOGS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("LANG", "C")
    bare = Options().environment()
    assert not {"DIT_DTYPE", "OMP_NUM_THREADS", "GOMP_SPINCOUNT", "TORCH_LOGS"} & set(bare)
    assert bare["LANG"] == "C"
    assert Options(threads=3).environment()["OMP_NUM_THREADS"] == "3"


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = result("alone", {"bundled.over_fp32": Spread((5.5, 6.5))})
    write_result(written, tmp_path)
    assert read_results(tmp_path) == [written]


def test_a_requested_model_has_its_own_results(tmp_path: Path) -> None:
    figures = {"bundled.over_fp32": Spread((5.5,))}
    for one in (result("alone", figures), result("alone", {}, model="xl-256")):
        write_result(one, tmp_path)
    report = render(read_results(tmp_path))
    assert "### alone\n" in report
    assert "### alone: xl-256\n" in report
    assert "| 5.50x |" in report


def test_the_report_says_what_was_reached_and_what_was_not_measured() -> None:
    reached, missed = Spread((4.0, 5.5, 6.5)), Spread((2.4,))
    figures = {"bundled.over_fp32": reached, "bundled.over_bf16": missed}
    lines = render([result("alone", figures)]).splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| C")]
    assert [row[3:] for row in rows[:3]] == [
        ["5.50x", "4x .. 6.50x", "yes |"],
        ["2.40x", "2.40x .. 2.40x", "**no** |"],
        ["not measured", "-", "- |"],
    ]
    assert "| ours | 2 (1 .. 3) |" in lines
    assert "| theirs | - |" in lines
    assert any(line.startswith("Not measured: quality, tick, offline,") for line in lines)


def test_a_requested_models_figures_do_not_count_for_the_targets() -> None:
    other = result("serving", {"ours": Spread((9.0,))}, model="tiny")
    assert find_spread([other], device="cpu", suite="serving", figure="ours") is None


def test_the_report_begins_with_a_plot_and_says_where_we_lose(tmp_path: Path) -> None:
    faster, slower = Spread((4.0, 5.5, 6.5)), Spread((0.5,))
    figures = {"bundled.over_fp32": faster, "bundled.over_bf16": slower}
    write_result(result("alone", figures), tmp_path)
    pages = []
    for _ in range(2):
        write_report(tmp_path, tmp_path / "page.md")
        pages.append((tmp_path / "page.svg").read_bytes())
    assert pages[0] == pages[1]
    _, _, plot, _, speed, loss, targets, *_ = (tmp_path / "page.md").read_text().splitlines()
    assert plot.endswith("(page.svg)")
    assert "5.50 times as fast as diffusers fp32 and 0.50 times as fast as" in speed
    assert loss.startswith("- **It is slower** in 1 of the 2 comparisons of")
    assert "down to 0.50x" in loss
    assert targets == "- CPU targets: 1 of 15 reached, 1 missed, 13 not measured."


def test_targets_below_a_bound_are_reached_below_it() -> None:
    (target,) = [one for one in TARGETS if (one.device, one.suite) == ("cpu", "overhead")]
    assert target.reached(Spread((9.0,)))
    assert not target.reached(Spread((10.0,)))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0"),
        (3.0, "3"),
        (0.01234, "0.0123"),
        (0.5, "0.50"),
        (12.345, "12.3"),
        (1e6, "1000000"),
    ],
)
def test_numbers_show_three_digits_and_no_exponent(value: float, expected: str) -> None:
    assert number(value) == expected


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_dry_run_prints_the_plan_and_writes_nothing(
    device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--dry-run", "--device", device, "--out", str(tmp_path / "results")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed][-1] == "== operation"
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_small_run_measures_every_target_of_a_cpu(tmp_path: Path) -> None:
    suites = sorted({target.suite for target in TARGETS if target.device == "cpu"})
    small = ["--quick", "--model", "tiny", "--device", "cpu", "--threads", "1"]
    assert main([*suites, *small, "--out", str(tmp_path)]) == 0
    results = read_results(tmp_path)
    found = {name for one in results for name in one.measured.figures}
    wanted = {target.figure for target in TARGETS if target.device == "cpu"}
    if not lit_installed(Options(work=WORK)):
        wanted = {name for name in wanted if "LitServe" not in name}
    assert {name.replace(BUNDLED, "tiny").replace(XL_TICK, "tiny") for name in wanted} <= found
    assert "## Targets" in (tmp_path / "benchmarks.md").read_text()


def test_an_ask_leaves_steps_and_sampler_to_the_server_unless_named() -> None:
    (named,) = uniform(1, steps=5)
    (unnamed,) = uniform(1, steps=5, named=False)
    assert named.body.keys() - unnamed.body.keys() == {"num_sampling_steps", "sampler"}
    assert "named" not in named.body
