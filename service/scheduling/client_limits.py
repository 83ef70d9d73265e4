"""Client limits: how much one client may have admitted and unfinished, and when there is room again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from service.errors import RateLimited
from service.scheduling.jobs import Job
from service.scheduling.pace import Pace

LEAST_RETRY_S = 0.1
"""The shortest wait that a refused request is told; whole seconds are told as at least one."""

Left = Mapping[Job, int]
"""The work left of every unfinished job, in row-steps, in the order of admission."""


@dataclass(frozen=True, slots=True)
class _Limit:
    """``amount`` is what a job takes of it, which is given back ``by_steps`` or when the job ends."""

    name: str
    unit: str
    most: int
    amount: Callable[[Job], int]
    by_steps: bool


def check_client_limits(job: Job, left: Left, pace: Pace) -> None:
    """Refuse a job for which its client's limits leave no room.

    A job larger than a whole limit is admitted if its client has no other.

    Raises:
        RateLimited: names the limit, and says when there may be room.
    """
    for limit in _limits_of(job, left):
        used = sum(limit.amount(each) for each in left if each.client == job.client)
        excess = used + limit.amount(job) - limit.most
        if used and excess > 0:
            wait_s = _wait_s(limit, job.client, min(excess, used), left, pace)
            raise RateLimited(
                f"the key {job.client!r} may have {limit.most} {limit.unit} at a time ({limit.name});"
                f" {used} are under way, and this request needs {limit.amount(job)}",
                limit=limit.name,
                client=job.client,
                retry_after_s=max(LEAST_RETRY_S, wait_s),
            )


def _limits_of(job: Job, left: Left) -> Iterator[_Limit]:
    limits = job.client_limits
    if limits.max_images is not None:
        yield _Limit(
            "max_images", "images", limits.max_images, lambda each: len(each.trajectories), False
        )
    if limits.max_row_steps is not None:
        work = limits.max_row_steps
        yield _Limit(
            "max_row_steps", "row-steps", work, lambda each: left.get(each, each.work), True
        )


def _wait_s(limit: _Limit, client: str, excess: int, left: Left, pace: Pace) -> float:
    """The seconds until the client has ``excess`` fewer.

    Until then the device works off what fair sharing finishes before: in full ticks, or in fewer rows a
    tick in as many ticks as the client's own jobs need one after the other, whichever takes longer.
    """
    work = ticks = freed = 0.0
    images = 0  # that have to be decoded
    for job in _in_order(left):
        part = 1.0
        if job.client == client:
            if limit.by_steps:
                part = min(1.0, (excess - freed) / max(limit.amount(job), 1))
            else:
                images = job.images_left
            freed += part * limit.amount(job)
            ticks = max(ticks, part * job.ticks_left_at_least)
        work += part * left[job]
        if freed >= excess:
            break
    rows = min(round(sum(map(_rows, left))), pace.max_rows)
    own_s = ticks * pace.tick_seconds(rows) + images * pace.decode_seconds
    return max(pace.seconds_for(round(work)), own_s)


def _rows(job: Job) -> float:
    """How many rows a tick has for it on average, if all its images are in it."""
    return sum(each.row_steps / each.steps for each in job.trajectories)


def _in_order(left: Left) -> list[Job]:
    """Jobs as fair sharing would finish them from now on: a client's n-th counts n times."""
    counts: Counter[str] = Counter()
    sizes: dict[Job, int] = {}
    for job, work in left.items():
        counts[job.client] += 1
        sizes[job] = work * counts[job.client]
    return sorted(sizes, key=sizes.__getitem__)
