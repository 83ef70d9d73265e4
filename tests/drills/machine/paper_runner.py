"""PaperRunner: a model on paper, with the real slots, faults as told, and a book of what it did."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch

from model.runner.decoding import Decoding, Pixels
from model.runner.flight import Flight, Parked
from model.runner.runner import DeviceLost, ModelRunner, OutOfMemory
from model.runner.slots import Slots
from model.runner.tick import Tick
from model.runner.tick_log import FinishedTick
from model.sampling.trajectory import Trajectory
from tests.support.jobs import NO_NOISE, NO_STEPS

ONE_ROW_S, FULL_S = 0.025, 0.1
DECODE_S = 0.25
MAX_ROWS = 6
SLOTS = MAX_ROWS
"""As few as a tick may need, so that images are parked all the time."""


def tick_s(rows: int) -> float:
    """What a tick takes: a part, and as much again for each row. Wide ticks do more a second."""
    return ONE_ROW_S + (rows - 1) / (MAX_ROWS - 1) * (FULL_S - ONE_ROW_S)


class Clock:
    """Moves as the machine says."""

    now = 1000.0
    decoder_free = 0.0  # when the decoder has done its latest pass

    def __call__(self) -> float:
        return self.now


class PaperTick:
    """Buffers that hold each image's seed in its slot."""

    def __init__(self) -> None:
        self.seeds: dict[int, torch.Tensor] = {}

    def begin(self, slot: int, latent: torch.Tensor) -> None:
        self.seeds[slot] = latent

    def resume(self, slot: int, parked: Parked) -> None:
        self.seeds[slot] = parked.latent

    def park(self, slot: int, *, history: bool) -> Parked:
        seed = self.seeds.pop(slot)
        return Parked(seed, x0=seed)


class PaperDecoding(Decoding):
    """A pass that is done when the clock gets there, or when someone waits for it; one after the other."""

    def __init__(self, clock: Clock, pixels: Pixels) -> None:
        self._clock = clock
        clock.decoder_free = max(clock.now, clock.decoder_free) + DECODE_S
        self._ends = clock.decoder_free
        self._pixels = pixels

    @property
    def done(self) -> bool:
        return self._clock.now >= self._ends

    @property
    def device_seconds(self) -> float:
        return DECODE_S

    def pixels(self) -> Pixels:
        self._clock.now = max(self._clock.now, self._ends)
        return self._pixels


class PaperRunner(ModelRunner):
    """Ticks take `tick_s` and the pixels of an image are its seed.

    Attributes:
        meanwhile: what happens elsewhere while the next ticks run, one at a time.
        breaks_at: by seed, the step at which a tick with this image fails, or "decode", or "pixels" for
            an image that is not finite.
        shortages: the most rows that fit into memory, for as many further attempts.
        lost: whether the device is.
        ticked: the steps that each image has done, by its seed.
        condemned: seeds of the images that have failed for good.
        previewed: pairs of seed and step.
    """

    def __init__(self, clock: Clock) -> None:
        self.max_rows = MAX_ROWS
        self.slots = SLOTS
        self.meanwhile: deque[Callable[[], None]] = deque()
        self.breaks_at: dict[int, int | str] = {}
        self.shortages: deque[int] = deque()
        self.lost = False
        self.ticked: Counter[int] = Counter()
        self.condemned: set[int] = set()
        self.previewed: set[tuple[int, int]] = set()
        self.in_flight: set[Flight] = set()
        self._clock = clock
        self._buffers = PaperTick()
        self._slots = Slots(cast(Tick, self._buffers), SLOTS)
        self._short_alone = 0  # the seed that ran out of memory alone just now
        self._finished: list[FinishedTick] = []
        self._at_once = 1

    def join(self, trajectory: Trajectory) -> Flight:
        flight = Flight(trajectory, 0, NO_NOISE)
        self._slots.join(flight, torch.tensor(trajectory.seed))
        self.in_flight.add(flight)
        return flight

    def leave(self, flight: Flight) -> None:
        assert flight in self.in_flight, "it left twice, or never joined"
        self.in_flight.remove(flight)
        self._slots.leave(flight)

    def tick(self, flights: Sequence[Flight]) -> int:
        if self.meanwhile:
            self.meanwhile.popleft()()
        rows = sum(flight.rows for flight in flights)
        assert rows <= MAX_ROWS
        self._check(flights)
        self._run_out(flights, rows)
        self._break(flights, lambda flight: self.breaks_at.get(_seed(flight)) == flight.step)
        self._clock.now += tick_s(rows)
        self._finished.append(FinishedTick(rows, tick_s(rows)))
        for flight in flights:
            assert not flight.done, "a finished image had another tick"
            flight.advance()
            self.ticked[_seed(flight)] += 1
        return rows

    def wait_for_room(self) -> None:
        """A tick is over when it returns."""

    def finished_ticks(self) -> list[FinishedTick]:
        finished, self._finished = self._finished, []
        return finished

    @property
    def decoded_at_once(self) -> int:
        return self._at_once

    def limit_decodes(self, images: int) -> None:
        self._at_once = max(1, min(self._at_once, images))

    def start_decode(self, flights: Sequence[Flight]) -> Decoding:
        self._check(flights)
        assert all(flight.done for flight in flights), "an unfinished image was decoded"
        self._run_out(flights, MAX_ROWS + len(flights))
        self._break(flights, lambda flight: self.breaks_at.get(_seed(flight)) == "decode")
        pixels: Pixels = [np.array([_seed(flight)]) for flight in flights]
        for i, flight in enumerate(flights):
            if self.breaks_at.get(_seed(flight)) == "pixels":
                self.condemned.add(_seed(flight))
                pixels[i] = None
        return PaperDecoding(self._clock, pixels)

    def start_preview(self, flights: Sequence[Flight]) -> Decoding:
        self._check(flights)
        self.previewed |= {(_seed(flight), flight.step) for flight in flights}
        return PaperDecoding(self._clock, [np.array([_seed(flight)]) for flight in flights])

    def memory_bytes(self) -> dict[str, int]:
        return {}

    def release_cached_memory(self) -> None:
        """There is none."""

    def all_slots_are_free(self) -> bool:
        """Takes them all."""
        flights = [self.join(Trajectory(0, 1.0, -i, NO_STEPS, (1,))) for i in range(SLOTS)]
        return len({flight.slot for flight in flights}) == SLOTS and not any(
            flight.parked for flight in flights
        )

    def _check(self, flights: Sequence[Flight]) -> None:
        """Every image is in flight, once, and has its own slot with its own latent in it."""
        if self.lost:
            raise DeviceLost("unspecified launch failure")
        assert self.in_flight.issuperset(flights), "an image that had left was worked on"
        assert len(set(flights)) == len(flights)
        self._slots.seat(flights)
        for flight in flights:
            assert self._buffers.seeds[flight.slot] == _seed(flight)

    def _run_out(self, flights: Sequence[Flight], rows: int) -> None:
        """Perhaps there is no memory. An image gets a second try, and then fails."""
        alone, self._short_alone = self._short_alone, 0
        if self.shortages and self.shortages.popleft() < rows:
            if len(flights) == 1:
                self._short_alone = _seed(flights[0])
                if alone == self._short_alone:
                    self.condemned.add(alone)
            raise OutOfMemory(f"{rows} rows")

    def _break(self, flights: Sequence[Flight], breaks: Callable[[Flight], bool]) -> None:
        if any(map(breaks, flights)):
            if len(flights) == 1:
                self.condemned.add(_seed(flights[0]))
            raise RuntimeError("injected")


def _seed(flight: Flight) -> int:
    return flight.trajectory.seed
