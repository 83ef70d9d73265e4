"""Requests: a state machine over admission, scheduler and worker: requests come, and meet every end.

What must hold is written down a second time here, from what the runner did and what the requests are, not
from what the queue and the scheduler say.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from model.runner.runner import DeviceLost, TickTimes
from service.engine.worker import Worker
from service.errors import (
    ClientGone,
    DeadlinePassed,
    ImageFailed,
    QueueFull,
    ServiceError,
    Unavailable,
)
from service.metrics import Metrics
from service.scheduling.admission import MOST_KEPT, AdmissionQueue
from service.scheduling.fair import fair_scheduler
from service.scheduling.jobs import Job, Progress
from service.scheduling.narrowing import LEAST_EFFICIENCY
from tests.drills.machine.paper_runner import (
    DECODE_S,
    FULL_S,
    MAX_ROWS,
    ONE_ROW_S,
    Clock,
    PaperRunner,
)
from tests.support.jobs import measured_pace, trajectory

LIMIT = 90
"""The queue's, in row-steps: some requests fill it."""

MOST_OPEN = 16
"""Fewer than the worker reviews at every step."""

image = st.lists(st.sampled_from((1, 2)), min_size=1, max_size=6)
"""An image, by its rows at each step."""

alike = st.builds(lambda rows, count: [rows] * count, image, st.integers(2, 6))
"""Images that end together, so that some wait for the decoder."""


@dataclass(slots=True)
class Book:
    """How many requests had each end, over all histories."""

    ends: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client asks for. Without ``preview_every`` it does not look at the progress."""

    images: list[list[int]]
    client: str
    timeout_s: float
    preview_every: int | None


wish = st.builds(
    Wish,
    images=st.lists(image, min_size=1, max_size=4) | alike,
    client=st.sampled_from("abc"),
    timeout_s=st.sampled_from((0.15, 0.5, 1.0, 2.0, 1000.0)),
    preview_every=st.sampled_from((None, None, 0, 1, 2)),
)


@dataclass(slots=True, eq=False)
class Request:
    """A request, and what has come of it."""

    job: Job
    seeds: list[int]
    admitted: bool = False
    must_end: bool = False
    ends: int = 0
    reported: list[int] = field(default_factory=list)

    def report(self, progress: Progress) -> None:
        assert not self.ends, "progress of a request that has ended"
        assert progress.steps_done >= max(self.reported, default=0), "progress went backwards"
        self.reported.append(progress.steps_done)


class Requests(RuleBasedStateMachine):
    """Each rule is something that can happen to a service; the invariants are what it promises."""

    book = Book()

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.runner = PaperRunner(self.clock)
        self.queue = AdmissionQueue(LIMIT, clock=self.clock)
        self.pace = measured_pace(TickTimes(ONE_ROW_S, FULL_S, decode=DECODE_S), MAX_ROWS)
        self.scheduler = fair_scheduler(self.pace, self.clock)
        self.metrics = Metrics()
        self.worker = Worker(
            self.runner,
            self.queue,
            self.metrics,
            pace=self.pace,
            scheduler=self.scheduler,
            clock=self.clock,
        )
        self.open: list[Request] = []
        self.closed = False
        self.refused: set[str] = set()  # clients that were told to come back, at any time
        self.numbers = itertools.count(1)
        self.violations: list[AssertionError] = []

    @initialize()
    def begin(self) -> None:
        """Nothing has happened."""

    # What happens.

    @precondition(lambda self: len(self.open) < MOST_OPEN)
    @rule(wishes=st.lists(wish, min_size=1, max_size=4), during_a_tick=st.booleans())
    def come(self, wishes: list[Wish], during_a_tick: bool) -> None:
        for each in wishes:
            self.now_or_during_a_tick(
                lambda each=each: self.offer(self.request(each)),  # type: ignore[misc]
                during_a_tick,
            )

    @precondition(lambda self: self.open)
    @rule(which=st.integers(min_value=0), during_a_tick=st.booleans())
    def leave(self, which: int, during_a_tick: bool) -> None:
        leaving = self.open[which % len(self.open)]
        self.now_or_during_a_tick(leaving.job.cancel, during_a_tick)

    @rule(steps=st.integers(min_value=1, max_value=4))
    def work(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    @rule(seconds=st.sampled_from((0.05, 0.3, 3.0)))
    def pause(self, seconds: float) -> None:
        """The engine's thread was away: the whole process stood still."""
        self.clock.now += seconds

    @precondition(lambda self: self.open)
    @rule(
        which=st.integers(min_value=0),
        at=st.one_of(st.integers(min_value=0, max_value=5), st.sampled_from(("decode", "pixels"))),
    )
    def spoil(self, which: int, at: int | str) -> None:
        """One image will fail."""
        seeds = [seed for request in self.open for seed in request.seeds]
        self.runner.breaks_at[seeds[which % len(seeds)]] = at

    @rule(rows=st.lists(st.integers(min_value=0, max_value=MAX_ROWS), min_size=1, max_size=6))
    def run_short_of_memory(self, rows: list[int]) -> None:
        self.runner.shortages.extend(rows)

    @precondition(lambda self: len(self.open) > 2)
    @rule(lose_the_device=st.booleans())
    def end(self, lose_the_device: bool) -> None:
        """As the engine ends: at the end of the drain's time, or because the device is lost."""
        self.runner.lost = lose_the_device
        if lose_the_device:
            with contextlib.suppress(DeviceLost):
                self.step()
        self.closed = True
        reason = Unavailable("over")
        self.queue.close(reason)
        self.worker.abandon(reason)
        assert not self.open, "a request is left after the end"

    # What is promised.

    @invariant()
    def every_end_was_right(self) -> None:
        for violation in self.violations:
            raise violation

    @invariant()
    def work_is_accounted_for(self) -> None:
        assert self.queue.row_steps == sum(self.row_steps_left(each) for each in self.open)

    @invariant()
    def jobs_are_where_they_belong(self) -> None:
        begun = {each.job for each in self.open if self.is_begun(each)}
        scheduled = set(self.scheduler.jobs())
        assert begun <= scheduled <= {each.job for each in self.open}
        assert self.scheduler.running == len(begun)
        assert self.scheduler.waiting == len(scheduled) - len(begun)

    @invariant()
    def slots_are_held_by_open_requests_alone(self) -> None:
        seeds = {seed for each in self.open for seed in each.seeds}
        assert {flight.trajectory.seed for flight in self.runner.in_flight} <= seeds

    @invariant()
    def a_tick_is_wide_enough_and_no_wider(self) -> None:
        """A request is left out only if what is left makes a wide tick, and if it is in no hurry."""
        picked = self.scheduler.pick()
        assert picked == self.scheduler.pick(), "to look changed something"
        keys = {(task.job, task.index) for task in picked}
        assert len(keys) == len(picked), "an image twice"
        rows = sum(task.next_rows for task in picked)
        free = self.scheduler.row_limit - rows
        assert free >= 0
        for job in self.scheduler.jobs():
            for index in range(len(job.trajectories)):
                fits = 0 < self.next_rows(job, index) <= free
                left_out = fits and (job, index) not in keys
                assert not left_out or self.may_sit_out(job, rows), "an image was held up"

    @invariant()
    def a_request_alone_is_served(self) -> None:
        if len(self.scheduler.jobs()) == 1 and not self.all_denoised():
            assert self.scheduler.pick()

    def teardown(self) -> None:
        """Whatever has happened: everything that was admitted ends, in bounded time, and nothing is left."""
        self.runner.meanwhile.clear()
        self.runner.shortages.clear()
        most = 10 + sum(self.steps_left(each) + len(each.seeds) for each in self.open)
        for _ in range(most):
            if not self.worker.busy:
                break
            self.step()
        assert not self.worker.busy, "stuck"
        assert not self.open, "lost"
        self.every_end_was_right()
        self.worker.step()
        for gauge in ("requests_running", "requests_waiting", "row_steps_waiting"):
            assert self.metrics.registry.get_sample_value(f"dit_{gauge}") == 0
        assert not self.runner.in_flight
        assert self.runner.all_slots_are_free()

    # How it is done and known.

    def request(self, wish: Wish) -> Request:
        seeds = [next(self.numbers) for _ in wish.images]
        job = Job(
            id=str(seeds[0]),
            deadline=self.clock.now + wish.timeout_s,
            admitted=self.clock.now,
            trajectories=tuple(trajectory(*each) for each in zip(wish.images, seeds)),
            client=wish.client,
            preview_every=wish.preview_every or 0,
        )
        request = Request(job, seeds)
        if wish.preview_every is not None:
            job.on_progress = request.report
        job.future.add_done_callback(lambda _: self.note_end(request))
        return request

    def offer(self, request: Request) -> None:
        held = sum(self.row_steps_left(each) for each in self.open)
        try:
            self.queue.offer(request.job, self.pace)
        except QueueFull:
            self.book.ends["QueueFull"] += 1
            assert not self.closed
            assert held
            others = self.refused - {request.job.client}
            room = LIMIT - int(MOST_KEPT * LIMIT) if others else LIMIT
            assert held + request.job.work > room, "refused although there was room"
            self.refused.add(request.job.client)
        except DeadlinePassed:
            assert not self.could_make_it(request)
        except Unavailable:
            assert self.closed
        else:
            assert not self.closed
            assert not held or held + request.job.work <= LIMIT, "admitted although it was full"
            request.admitted = True
            self.open.append(request)

    def now_or_during_a_tick(self, act: Callable[[], None], during_a_tick: bool) -> None:
        if during_a_tick:
            self.runner.meanwhile.append(act)
        else:
            act()

    def step(self) -> None:
        """One step of the worker. Whoever has left or is late before it has ended after it."""
        due = [each for each in self.open if each.job.cancelled or self.is_late(each)]
        self.worker.step()
        assert not [each for each in due if not each.ends], (
            "a request outlived its client or deadline"
        )

    def note_end(self, request: Request) -> None:
        """Called by the request's future, which keeps to itself what is raised here."""
        try:
            self.check_end(request)
        except AssertionError as error:
            self.violations.append(error)

    def check_end(self, request: Request) -> None:
        """Whether a request has the outcome that it should have."""
        request.ends += 1
        assert request.ends == 1, "it ended twice"
        assert request.admitted, "it was never admitted"
        self.open.remove(request)
        error = request.job.future.exception()
        self.book.ends["pictures" if error is None else type(error).__name__] += 1
        failed = self.runner.condemned & set(request.seeds)
        if error is None:
            assert not failed
            self.check_pictures(request)
        elif isinstance(error, ClientGone):
            assert request.job.cancelled
        elif isinstance(error, DeadlinePassed):
            assert not self.could_make_it(request), "dropped although it could make it"
        elif isinstance(error, ImageFailed):
            assert failed, "an image failed for another's fault"
        else:
            assert isinstance(error, ServiceError)
            assert self.closed

    def check_pictures(self, request: Request) -> None:
        pictures = request.job.future.result().pixels
        assert [int(each[0]) for each in pictures] == request.seeds, "pictures were mixed up"
        for seed, planned in zip(request.seeds, request.job.trajectories):
            assert self.runner.ticked[seed] == planned.steps, "not as many steps as planned"

    def row_steps_left(self, request: Request) -> int:
        """Of a request that is open: what it was admitted with, less what the runner did for it."""
        previews = sum(seed in request.seeds for seed, _ in self.runner.previewed)
        done = sum(
            sum(planned.rows[: self.runner.ticked[seed]])
            for seed, planned in zip(request.seeds, request.job.trajectories)
        )
        return request.job.work - done - previews * request.job.preview_row_steps

    def steps_left(self, request: Request) -> int:
        return request.job.steps - sum(self.runner.ticked[seed] for seed in request.seeds)

    def next_rows(self, job: Job, index: int) -> int:
        planned = job.trajectories[index]
        return planned.rows_at(self.runner.ticked[planned.seed])

    def may_sit_out(self, job: Job, rows: int) -> bool:
        """Whether it may be left out of a tick of so many rows: it has time for this one and its own."""
        left = job.steps - sum(self.runner.ticked[each.seed] for each in job.trajectories)
        in_time = (1 + left / len(job.trajectories)) * FULL_S <= job.deadline - self.clock.now
        return in_time and rows >= self.pace.rows_at(LEAST_EFFICIENCY)

    def all_denoised(self) -> bool:
        jobs = self.scheduler.jobs()
        return not any(self.next_rows(job, i) for job in jobs for i in range(len(job.trajectories)))

    def is_begun(self, request: Request) -> bool:
        """Whether one of its images is in flight and has had a tick."""
        flying = {flight.trajectory.seed for flight in self.runner.in_flight}
        return any(seed in flying and self.runner.ticked[seed] for seed in request.seeds)

    def is_late(self, request: Request) -> bool:
        return request.job.deadline < self.clock.now

    def could_make_it(self, request: Request) -> bool:
        """Whether it would be in time if it had the device for itself from now on."""
        planned = zip(request.seeds, request.job.trajectories)
        ticks = max(each.steps - self.runner.ticked[seed] for seed, each in planned)
        needed_s = ticks * ONE_ROW_S + len(request.seeds) * DECODE_S
        return request.job.deadline - self.clock.now >= needed_s
