"""Planted: faults of admission, scheduler and cancel, one at a time, that the machine has to find."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import TypeVar

import pytest

from service.engine.decode_queue import DecodeQueue
from service.engine.worker import Worker
from service.errors import ServiceError
from service.scheduling.admission import AdmissionQueue
from service.scheduling.deadlines import reason_to_drop
from service.scheduling.fair import FairScheduler
from service.scheduling.jobs import ImageTask, Job
from service.scheduling.narrowing import Narrowing
from service.scheduling.pace import Pace
from service.scheduling.ready_queues import ReadyQueues
from service.scheduling.virtual_time import Share, VirtualTime

Patch = pytest.MonkeyPatch
Plant = Callable[[Patch], None]
PLANTED: list[Plant] = []
UNFAIR: list[Plant] = []

P = TypeVar("P", bound=Plant)


def planted(plant: P) -> P:
    PLANTED.append(plant)
    return plant


def planted_unfairness(plant: P) -> P:
    UNFAIR.append(plant)
    return plant


@planted
def the_work_of_a_job_that_ends_early_is_not_released(patch: Patch) -> None:
    def forget(self: AdmissionQueue, job: Job) -> None:
        self._row_steps_left.pop(job)

    patch.setattr(AdmissionQueue, "forget", forget)


@planted
def the_queue_admits_beyond_its_limit(patch: Patch) -> None:
    patch.setattr(AdmissionQueue, "_check_room", lambda self, job, pace: None)


@planted
def a_closed_queue_admits(patch: Patch) -> None:
    patch.setattr(AdmissionQueue, "close", lambda self, reason: None)


@planted
def nobody_asks_whether_a_client_has_left(patch: Patch) -> None:
    rule = reason_to_drop

    def reason(job: Job, pace: Pace, now: float, *, alone: bool) -> ServiceError | None:
        kept, job.cancelled = job.cancelled, False
        found = rule(job, pace, now, alone=alone)
        job.cancelled = kept
        return found

    patch.setattr("service.engine.worker.reason_to_drop", reason)


@planted
def waiting_jobs_are_not_reviewed(patch: Patch) -> None:
    patch.setattr(Worker, "_review_some", lambda self: None)


@planted
def deadlines_are_taken_for_out_of_reach_early(patch: Patch) -> None:
    patch.setattr("service.scheduling.deadlines.SAFETY_FACTOR", 0.5)


@planted
def the_images_of_a_dropped_job_stay_in_the_order(patch: Patch) -> None:
    patch.setattr(ReadyQueues, "leave", lambda self, task: self._entered.pop(task, None))


@planted
def an_image_whose_guidance_ends_stays_among_the_guided(patch: Patch) -> None:
    patch.setattr(ReadyQueues, "requeue", lambda self, task: None)


@planted
def a_tick_may_have_one_row_too_many(patch: Patch) -> None:
    pick = ReadyQueues.pick
    patch.setattr(ReadyQueues, "pick", lambda self, rows: pick(self, rows + 1))


@planted
def who_is_in_a_hurry_is_left_out_too(patch: Patch) -> None:
    patch.setattr(Narrowing, "_may_sit_out", lambda self, job, left: True)


@planted
def a_tick_may_be_as_narrow_as_can_be(patch: Patch) -> None:
    def sitting_out(self: Narrowing, rows: Mapping[Job, int]) -> frozenset[Job]:
        self._least_rows = 1
        return real(self, rows)

    real = Narrowing.sitting_out
    patch.setattr(Narrowing, "sitting_out", sitting_out)


@planted
def a_job_that_is_set_aside_is_still_counted_as_running(patch: Patch) -> None:
    def land(self: FairScheduler, entry: object, images: int) -> None:
        entry.in_flight -= images  # type: ignore[attr-defined]

    patch.setattr(FairScheduler, "_land", land)


@planted
def a_dropped_job_stays_in_the_decoders_queue(patch: Patch) -> None:
    patch.setattr(DecodeQueue, "drop", lambda self, job: None)


@planted
def a_dropped_image_keeps_its_slot(patch: Patch) -> None:
    def leave(self: Worker, task: ImageTask) -> None:
        task.flight = None

    patch.setattr(Worker, "_leave", leave)


@planted
def one_failed_image_fails_the_whole_tick(patch: Patch) -> None:
    def culprits(tasks: list[ImageTask], attempt: Callable[..., Exception | None]) -> object:
        fault = attempt(tasks)
        return {} if fault is None else dict.fromkeys(tasks, fault)

    patch.setattr("service.engine.isolation._culprits", culprits)


@planted
def the_end_leaves_those_that_were_not_taken(patch: Patch) -> None:
    def abandon(self: Worker, error: ServiceError) -> None:
        for job in tuple(self._scheduler.jobs()):
            self._drop(job, error, "cancelled")

    patch.setattr(Worker, "abandon", abandon)


@planted_unfairness
def the_latest_goes_first(patch: Patch) -> None:
    def admit(self: VirtualTime, work: float, client: str) -> Share:
        share = real(self, work, client)
        return share._replace(finish=-share.finish)

    real = VirtualTime.admit
    patch.setattr(VirtualTime, "admit", admit)


@planted_unfairness
def a_clients_many_requests_weigh_as_much_as_anothers_one(patch: Patch) -> None:
    def admit(self: VirtualTime, work: float, client: str) -> Share:
        return real(self, work, f"{client} {next(numbers)}")

    numbers, real = itertools.count(), VirtualTime.admit
    patch.setattr(VirtualTime, "admit", admit)


@planted_unfairness
def the_clock_stands_still(patch: Patch) -> None:
    patch.setattr(VirtualTime, "advance", lambda self, work: None)
