"""Previews: what they may take from others, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from model.runner.decoding import Decoding
from model.runner.runner import Flight, TickTimes
from service.engine.preview_budget import BURST_TICKS, SHARE, PreviewBudget
from service.scheduling.admission import AdmissionQueue
from service.scheduling.fair import FairScheduler
from service.scheduling.jobs import Job
from service.scheduling.pace import Pace
from tests.support.jobs import job
from tests.support.workbench import Bench, BrittleRunner, pixels

TICK_S, DECODE_S = 0.1, 0.05
TIMES = TickTimes(TICK_S, TICK_S, decode=DECODE_S)


def budget_of(*jobs: Job) -> PreviewBudget:
    scheduler = FairScheduler(32)
    for each in jobs:
        scheduler.add(each)
    return PreviewBudget(Pace(TIMES, 32), AdmissionQueue(100), scheduler)


def test_next_to_other_jobs_previews_take_their_share_of_the_time() -> None:
    budget = budget_of(job("a", [2]), job("b", [2]))
    paid = 0
    for _ in range(1000):
        budget.earn(TICK_S)
        paid += budget.pay(32)
    assert paid * DECODE_S == pytest.approx(SHARE * 1000 * TICK_S, rel=0.01)


def test_a_job_alone_gets_all_its_previews() -> None:
    assert budget_of(job("a", [2])).pay(32) == 32


def test_the_share_of_a_few_ticks_is_saved_up_and_no_more() -> None:
    budget = budget_of(job("a", [2]), job("b", [2]))
    for _ in range(100 * BURST_TICKS):
        budget.earn(TICK_S)
    assert budget.pay(32) == round(BURST_TICKS * SHARE * TICK_S / DECODE_S)
    assert budget.pay(32) == 0


def test_a_preview_that_takes_longer_than_many_ticks_is_made_now_and_then() -> None:
    budget = budget_of(job("a", [2]), job("b", [2]))
    paid = 0
    for _ in range(1000):
        budget.earn(TICK_S / 100)
        paid += budget.pay(1)
    assert paid * DECODE_S == pytest.approx(SHARE * 1000 * TICK_S / 100, abs=DECODE_S)


class CountingRunner(BrittleRunner):
    """Counts the images of its previews."""

    previews: tuple[int, ...] = ()

    def start_preview(self, flights: Sequence[Flight]) -> Decoding:
        self.previews += tuple(flight.trajectory.seed for flight in flights)
        return super().start_preview(flights)


def test_a_stream_next_to_others_is_shown_less_often_and_every_image_in_turn(
    pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for learns in ("observe", "observe_decode"):
        monkeypatch.setattr(Pace, learns, lambda self, size, seconds: None)
    monkeypatch.setattr(PreviewBudget, "earn", lambda self, tick_s: earn(self, TICK_S))
    bench = Bench(pipeline_folder, CountingRunner, times=TIMES)
    assert isinstance(bench.runner, CountingRunner)
    bench.submit(100, steps=41)
    bench.submit(1, 2, 3, 4, steps=41, preview_every=1, on_progress=lambda progress: None)
    bench.finish()
    counts = [bench.runner.previews.count(seed) for seed in (1, 2, 3, 4)]
    assert sum(counts) == pytest.approx(40 * SHARE * TICK_S / DECODE_S, abs=2)
    assert max(counts) - min(counts) <= 1


earn = PreviewBudget.earn


@pytest.mark.parametrize("others", [0, 1])
def test_the_work_of_previews_is_admitted_and_worked_off(
    pipeline_folder: Path, others: int
) -> None:
    bench = Bench(pipeline_folder, times=TIMES)
    for seed in range(others):
        bench.submit(seed, steps=5)
    before = bench.queue.row_steps
    shown = bench.submit(9, steps=5, preview_every=2, on_progress=lambda progress: None)
    assert shown.preview_row_steps == 32 * DECODE_S / TICK_S
    assert bench.queue.row_steps - before == shown.work == 2 * 5 + 2 * shown.preview_row_steps
    bench.finish()
    assert pixels(shown)
    assert bench.queue.row_steps == 0
    assert shown.work_skipped == 0 or others


def test_a_job_without_a_reader_of_previews_does_not_pay_for_them(pipeline_folder: Path) -> None:
    bench = Bench(pipeline_folder, times=TIMES)
    assert bench.submit(1, steps=5, preview_every=1).work == 10
