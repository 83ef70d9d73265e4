"""Worker: which images a tick advances, what jobs are told, and which jobs are dropped."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from model.runner.runner import TickTimes
from service.engine.worker import REVIEWED_PER_STEP
from service.errors import ClientGone, DeadlinePassed
from service.scheduling.jobs import ImageTask, Job, Progress
from service.scheduling.row_limit import RECOVERY_TICKS
from tests.support.workbench import Bench, pixels


@pytest.fixture
def bench(pipeline_folder: Path) -> Bench:
    return Bench(pipeline_folder)


def test_the_row_limit_drops_after_an_out_of_memory_and_recovers(pipeline_folder: Path) -> None:
    bench = Bench(pipeline_folder, max_rows=8)
    assert bench.metric("dit_row_limit") == 8
    bench.runner.most_rows = 5
    jobs = [bench.submit(seed, steps=60) for seed in range(4)]
    bench.worker.step()  # its two halves are the first ticks that fit
    assert bench.metric("dit_row_limit") == 4
    for _ in range(RECOVERY_TICKS - 3):
        bench.worker.step()
    assert bench.metric("dit_out_of_memory_total") == 1
    bench.runner.most_rows = 8
    bench.finish()
    assert all(pixels(job) for job in jobs)
    assert bench.metric("dit_out_of_memory_total") == 1
    assert bench.metric("dit_row_limit") == 8


def test_progress_reports_steps_and_previews(bench: Bench) -> None:
    reports: list[Progress] = []
    bench.submit(1, 2, steps=6, preview_every=4, on_progress=reports.append)
    bench.finish()
    assert [each.steps_done for each in reports] == [2, 4, 6, 8, 10]
    assert {each.steps for each in reports} == {12}
    (previews,) = [each.previews for each in reports if each.previews]
    assert [index for index, _ in previews] == [0, 1]
    assert previews[0][1].shape == (8, 8, 3)


def test_an_image_that_is_set_aside_sends_no_preview_twice(pipeline_folder: Path) -> None:
    bench = Bench(pipeline_folder, max_rows=2)
    reports: list[Progress] = []
    bench.submit(1, steps=9, preview_every=2, on_progress=reports.append)
    for _ in range(2):
        bench.worker.step()
    small = bench.submit(2, steps=4)
    while not small.future.done():
        bench.worker.step()
    assert [(each.steps_done, len(each.previews)) for each in reports] == [(1, 0), (2, 1)]
    bench.finish()
    assert [each.steps_done for each in reports] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert sum(len(each.previews) for each in reports) == 4


def test_a_waiting_job_is_told_how_many_are_ahead_until_it_starts(pipeline_folder: Path) -> None:
    bench = Bench(pipeline_folder, max_rows=2)
    reports: list[Progress] = []
    bench.submit(1, steps=2)
    bench.submit(2, steps=2)
    bench.submit(3, steps=2, on_progress=reports.append)
    bench.finish()
    assert [(each.steps_done, each.ahead_in_queue) for each in reports] == [
        (0, 1),
        (0, 1),
        (0, 0),
        (0, 0),
        (1, 0),
    ]


def test_jobs_cancelled_while_waiting_are_dropped_within_a_few_steps(pipeline_folder: Path) -> None:
    bench = Bench(pipeline_folder, max_rows=2)
    runs = bench.submit(0, steps=40)
    waiting = [bench.submit(seed, steps=60) for seed in range(1, 3 * REVIEWED_PER_STEP)]
    bench.worker.step()
    assert bench.metric("dit_requests_waiting") == len(waiting)
    for job in waiting:
        job.cancel()
    for _ in range(3):
        bench.worker.step()
    assert all(isinstance(job.future.exception(timeout=0), ClientGone) for job in waiting)
    assert bench.metric("dit_requests_waiting") == 0
    bench.finish()
    assert pixels(runs)


def test_a_job_that_can_no_longer_meet_its_deadline_is_dropped(pipeline_folder: Path) -> None:
    bench = Bench(pipeline_folder, max_rows=2)
    late = bench.submit(1, steps=1000, timeout_s=30.0)
    bench.worker.step()
    assert not late.future.done()
    other = bench.submit(2, steps=999, timeout_s=1e6)
    for _ in range(200):
        bench.pace.observe(2, 1.0)  # one second per tick from now on: a thousand seconds
    bench.worker.step()
    with pytest.raises(DeadlinePassed, match="needs at least"):
        late.future.result(timeout=0)
    assert (late.steps_done, other.steps_done) == (1, 1)
    assert bench.queue.row_steps == 2 * 998


def test_a_job_near_its_end_keeps_a_tight_deadline(pipeline_folder: Path) -> None:
    bench = Bench(pipeline_folder, max_rows=2)
    job = bench.submit(1, steps=20, timeout_s=60.0)
    for _ in range(15):
        bench.worker.step()
    for _ in range(200):
        bench.pace.observe(1, 8.0)  # 40 s for the remaining steps, 160 s for all
    bench.finish()
    assert pixels(job)


def test_a_newcomer_starts_at_the_next_tick_whatever_others_hold(pipeline_folder: Path) -> None:
    """Each image overtakes the one before and takes a slot more, until more are set aside than fit."""
    bench = Bench(pipeline_folder, max_rows=2)
    held = 0
    while held <= bench.runner.slots:
        bench.submit(held, steps=1000 - 90 * held)
        bench.worker.step()
        held += 1
    assert bench.metric("dit_requests_running") == held
    newcomer = bench.submit(100, steps=1)
    bench.worker.step()
    assert pixels(newcomer)


def test_a_slow_spell_refuses_nobody_once_it_is_over(pipeline_folder: Path) -> None:
    bench = Bench(pipeline_folder)
    spell = bench.submit(1, steps=3)
    for _ in range(200):
        bench.pace.observe(2, 1.0)
    bench.finish()
    assert pixels(spell)
    for seed in range(20):
        job = bench.submit(seed, steps=50, timeout_s=20.0)  # 50 s at the pace of the spell
        bench.finish()
        assert pixels(job)


def test_nothing_is_sure_of_a_device_that_was_idle(bench: Bench) -> None:
    bench.submit(1, steps=20)
    bench.submit(2, steps=9)
    for _ in range(12):
        bench.worker.step()
    assert bench.pace.sure
    bench.finish()
    assert not bench.pace.sure


def test_a_disturbed_warm_up_refuses_nobody(pipeline_folder: Path) -> None:
    bench = Bench(pipeline_folder, times=TickTimes(10.0, 10.0, decode=10.0))
    job = bench.submit(1, steps=50, timeout_s=20.0)
    bench.finish()
    assert pixels(job)


def test_an_impossible_deadline_is_told_from_one_missed_under_load(pipeline_folder: Path) -> None:
    bench = Bench(pipeline_folder)
    bench.submit(1, 2, steps=1000, timeout_s=0.02)
    bench.finish()
    assert bench.metric("dit_images_total", outcome="impossible") == 2
    late = bench.submit(3, steps=1)
    late.admitted -= 60.0
    late.deadline = late.admitted + 1.0
    bench.finish()
    assert bench.metric("dit_images_total", outcome="timeout") == 1


class OneAtATime:
    """Another scheduler: one job after the other, however many rows are free."""

    def __init__(self, max_rows: int) -> None:
        self.row_limit = max_rows
        self._jobs: dict[Job, list[ImageTask]] = {}

    @property
    def running(self) -> int:
        return min(len(self._jobs), 1)

    @property
    def waiting(self) -> int:
        return len(self._jobs) - self.running

    def jobs(self) -> Collection[Job]:
        return self._jobs.keys()

    def ahead_of(self, job: Job) -> int:
        return list(self._jobs).index(job)

    def add(self, job: Job) -> None:
        self._jobs[job] = [ImageTask(job, i, each) for i, each in enumerate(job.trajectories)]

    def pick(self) -> list[ImageTask]:
        first = next(iter(self._jobs.values()), [])
        return [task for task in first if task.next_rows]

    def advanced(self, tasks: Sequence[ImageTask]) -> None:
        pass

    def charge(self, row_steps: int) -> None:
        pass

    def shrink(self, rows: int) -> None:
        pass

    def finish(self, task: ImageTask) -> None:
        self._jobs[task.job].remove(task)
        if not self._jobs[task.job]:
            del self._jobs[task.job]

    def drop(self, job: Job) -> list[ImageTask]:
        return self._jobs.pop(job)


def test_the_worker_runs_any_scheduler(pipeline_folder: Path) -> None:
    bench = Bench(pipeline_folder, scheduler=OneAtATime(32))
    jobs = [bench.submit(1, 2, steps=6), bench.submit(3)]
    bench.finish()
    assert [len(pixels(job)) for job in jobs] == [2, 1]
    assert bench.metric("dit_tick_images_bucket", le="1.0") == 4
    assert bench.metric("dit_tick_images_bucket", le="2.0") == 10
