"""Lines: the images that have steps to come, in the order in which they are served."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from dataclasses import dataclass, field

from service.scheduling.jobs import Sample

Order = tuple[float, float, int, float, int]
"""A job's place, smaller first: band, deadline, work, time and number of arrival."""


@dataclass(slots=True, eq=False)
class Line:
    """Images alike in what they take: rows of the next tick, and a slot or none."""

    rows: int
    in_flight: bool
    images: list[tuple[Order, int, Sample]] = field(default_factory=list)


class Lines:
    """A line for each need, so that one look at its head tells of all of it whether they fit."""

    def __init__(self) -> None:
        self._lines = [Line(rows, flying) for rows in (1, 2) for flying in (False, True)]
        self._spots: dict[Sample, tuple[Line, Order]] = {}

    def enter(self, order: Order, sample: Sample) -> None:
        """Stand an image in the line for its next step; one that has none stands nowhere."""
        need = (sample.rows_next, sample.flight is not None)
        for line in self._lines:
            if need == (line.rows, line.in_flight):
                insort(line.images, (order, sample.index, sample))
                self._spots[sample] = line, order

    def leave(self, sample: Sample) -> None:
        """Take an image out of the line it stands in, if any."""
        if sample not in self._spots:
            return
        line, order = self._spots.pop(sample)
        del line.images[bisect_left(line.images, (order, sample.index))]

    def line_of(self, sample: Sample) -> Line:
        return self._spots[sample][0]

    def stepped(self, sample: Sample) -> None:
        """Stand an image where its next step belongs."""
        line, order = self._spots[sample]
        if (line.rows, line.in_flight) != (sample.rows_next, True):
            self.leave(sample)
            self.enter(order, sample)

    def pick(self, rows: int, slots: int) -> list[Sample]:
        """The first in order that fit into ``rows``, at most ``slots`` of them not in flight yet.

        What fits less and less needs no second look: a line whose head does not fit is done with.
        """
        heads = [(*line.images[0], 0, line) for line in self._lines if line.images]
        heapq.heapify(heads)
        picked = []
        while heads:
            *_, sample, at, line = heads[0]
            fits = line.rows <= rows and (line.in_flight or slots > 0)
            if fits:
                picked.append(sample)
                rows -= line.rows
                slots -= not line.in_flight
            if fits and at + 1 < len(line.images):
                heapq.heapreplace(heads, (*line.images[at + 1], at + 1, line))
            else:
                heapq.heappop(heads)
        return picked
