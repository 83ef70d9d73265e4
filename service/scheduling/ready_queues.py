"""ReadyQueues: the images with steps to come, in the order in which they are served."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from dataclasses import dataclass, field

from service.scheduling.jobs import ImageTask

Place = tuple[float, float, int, float, int]
"""A job's place in the order, smallest first: band, deadline, work, time and number of arrival."""


@dataclass(slots=True, eq=False)
class ReadyQueue:
    """Images whose next step takes equally many rows."""

    rows: int
    images: list[tuple[Place, int, ImageTask]] = field(default_factory=list)


class ReadyQueues:
    """One queue per number of rows: if its head does not fit, nothing behind it does."""

    def __init__(self) -> None:
        self._queues = {rows: ReadyQueue(rows) for rows in (1, 2)}
        self._entered: dict[ImageTask, tuple[ReadyQueue, Place]] = {}

    def enter(self, place: Place, task: ImageTask) -> None:
        """Queue an image for its next step, if it has one."""
        queue = self._queues.get(task.next_rows)
        if queue is not None:
            insort(queue.images, (place, task.index, task))
            self._entered[task] = queue, place

    def leave(self, task: ImageTask) -> None:
        """Remove an image from its queue, if it is in one."""
        if task not in self._entered:
            return
        queue, place = self._entered.pop(task)
        del queue.images[bisect_left(queue.images, (place, task.index))]

    def queue_of(self, task: ImageTask) -> ReadyQueue:
        return self._entered[task][0]

    def requeue(self, task: ImageTask) -> None:
        """Move an image that took a step to the queue of its next one."""
        queue, place = self._entered[task]
        if queue.rows != task.next_rows:
            self.leave(task)
            self.enter(place, task)

    def pick(self, rows: int) -> list[ImageTask]:
        """The first images in order that fit into ``rows``.

        Rows only shrink on the way, so a queue whose head does not fit is not looked at again.
        """
        heads = [(*queue.images[0], 0, queue) for queue in self._queues.values() if queue.images]
        heapq.heapify(heads)
        picked = []
        while heads:
            *_, task, at, queue = heads[0]
            fits = queue.rows <= rows
            if fits:
                picked.append(task)
                rows -= queue.rows
            if fits and at + 1 < len(queue.images):
                heapq.heapreplace(heads, (*queue.images[at + 1], at + 1, queue))
            else:
                heapq.heappop(heads)
        return picked
