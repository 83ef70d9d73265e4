"""Stretches: what a service's device did during a load, second by second, from its counters."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.load.metrics import Samples, difference, read_metrics

EVERY_S = 1.0

TICKS = "dit_tick_rows_count", ""
ROWS = "dit_tick_rows_sum", ""
TICK_SECONDS = "dit_tick_duration_seconds_sum", ""
DECODE_SECONDS = "dit_decode_duration_seconds_sum", ""
WAITING = "dit_row_steps_waiting", ""


@dataclass(frozen=True, slots=True)
class Stretch:
    """From one reading to the next, by `time.perf_counter`. ``waiting``: row-steps at its start."""

    began: float
    ended: float
    ticks: float
    rows: float
    tick_s: float
    decode_s: float
    waiting: float

    @property
    def busy(self) -> bool:
        """Whether there was surely something to do all the time: more than was done."""
        return self.waiting > self.rows

    @property
    def host_s(self) -> float:
        """Seconds of a busy stretch in which neither a tick nor a decode ran."""
        return self.ended - self.began - self.tick_s - self.decode_s


@contextmanager
def watched(url: str, every_s: float = EVERY_S) -> Iterator[list[Stretch]]:
    """Reads the counters during the block; the list is complete after it."""
    readings = [_reading(url)]
    over = threading.Event()

    def read() -> None:
        while not over.wait(every_s):
            readings.append(_reading(url))

    thread = threading.Thread(target=read)
    thread.start()
    stretches: list[Stretch] = []
    try:
        yield stretches
    finally:
        over.set()
        thread.join()
    readings.append(_reading(url))
    stretches.extend(map(_stretch, readings, readings[1:]))


def _reading(url: str) -> tuple[float, Samples]:
    samples = read_metrics(url)
    return time.perf_counter(), samples


def _stretch(before: tuple[float, Samples], after: tuple[float, Samples]) -> Stretch:
    added = difference(after[1], before[1])
    return Stretch(
        before[0],
        after[0],
        ticks=added[TICKS],
        rows=added[ROWS],
        tick_s=added[TICK_SECONDS],
        decode_s=added[DECODE_SECONDS],
        waiting=before[1][WAITING],
    )
