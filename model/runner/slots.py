"""Slots: places in the device's buffers for more images than there are places."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor

from model.runner.flight import Flight, Parked
from model.runner.tick import Tick


class Slots:
    """Gives the images of a tick their slots, whatever else is in flight.

    Without a free slot, the image whose slot was used longest ago is parked: what it has there moves
    into tensors of its own, until it is seated again.

    Args:
        tick: has the buffers.
        count: the number of slots.
    """

    def __init__(self, tick: Tick, count: int) -> None:
        self._tick = tick
        self._count = count
        self._free = list(range(count))[::-1]
        self._seated: OrderedDict[Flight, None] = OrderedDict()  # used longest ago comes first

    def join(self, flight: Flight, latent: Tensor) -> None:
        """Take in a new image with its first noise (C, S, S)."""
        flight.parked = Parked(latent)
        if self._free:
            self._take(flight, flight.parked)

    def seat(self, flights: Sequence[Flight]) -> None:
        """Make sure that these images have slots; at most as many images as slots."""
        assert len(flights) <= self._count, "this is a bug: more images than slots"
        for flight in flights:
            if flight in self._seated:
                self._seated.move_to_end(flight)
        for flight in flights:
            if flight.parked is not None:
                if not self._free:
                    self._park()
                self._take(flight, flight.parked)

    def leave(self, flight: Flight) -> None:
        """Free an image's slot, if it has one."""
        if flight in self._seated:
            del self._seated[flight]
            self._free.append(flight.slot)
        flight.parked = None

    def _take(self, flight: Flight, parked: Parked) -> None:
        flight.slot = self._free.pop()
        if parked.x0 is None:
            self._tick.begin(flight.slot, parked.latent)
        else:
            self._tick.resume(flight.slot, parked)
        self._seated[flight] = None
        flight.parked = None

    def _park(self) -> None:
        flight = next(iter(self._seated))
        looks_back = flight.trajectory.table.past is not None
        flight.parked = self._tick.park(flight.slot, history=looks_back)
        del self._seated[flight]
        self._free.append(flight.slot)
