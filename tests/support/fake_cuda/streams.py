"""Device, streams and events: what has been launched where, and what of it has finished."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.support.fake_cuda.misuse import DeviceMisuse

KERNEL_S = 1e-5
"""Seconds that every kernel and copy takes."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One piece of work on a stream; the default stream is 0, others count up as they are made."""

    stream: int
    name: str


class Device:
    """The fake device's state, and what a test can set.

    Attributes:
        launches: all work so far, in the order of the calls.
        keeps_up: whether work has finished as soon as it is launched. If false, it finishes when
            the host waits for it or the test calls `finish`.
        fault: every launch and every wait raises it, as on a real device that is lost.
        waits_allowed: whether the host may wait; `torch.cuda.set_sync_debug_mode` sets it.
        capture: the names launched in the capture under way, None outside.
        caches_emptied: calls of `torch.cuda.empty_cache`.
    """

    def __init__(self) -> None:
        self.launches: list[Launch] = []
        self.keeps_up = True
        self.fault: Exception | None = None
        self.waits_allowed = True
        self.capture: list[str] | None = None
        self.graphs_made = 0
        self.caches_emptied = 0
        self.now = 0.0  # seconds; what ends before it has finished
        self.streams: list[Stream] = []
        self.default_stream = self.stream = Stream(self)
        self._arrivals: list[tuple[float, Tensor]] = []

    def launch(self, name: str, seconds: float = KERNEL_S, host: Tensor | None = None) -> None:
        """Put work on the current stream, or into the graph that is being captured.

        ``host`` is what the work fills when it has finished; until then it holds NaN or 0.
        """
        self._raise_fault()
        if self.capture is not None:
            self.capture.append(name)
            return
        self.stream.add(name, seconds)
        if host is not None:
            _fill(host, math.nan if host.is_floating_point() else 0)
            self._arrivals.append((self.stream.ends, host))
        if self.keeps_up:
            self.finish(name)

    def wait(self, what: str) -> None:
        """The host waits for the current stream because of ``what``."""
        if not self.waits_allowed:
            raise DeviceMisuse(f"{what} makes the host wait for the device")
        self.finish(what, self.stream.ends)

    def finish(self, what: str = "the test", until: float = math.inf) -> None:
        """Time passes until all streams' work, or all before ``until``, has finished."""
        self._raise_fault()
        if self.capture is not None:
            raise DeviceMisuse(f"{what} waits for the device while a graph is captured")
        self.now = max(self.now, min(until, max(stream.ends for stream in self.streams)))
        arrived = [host for ends, host in self._arrivals if ends <= self.now]
        self._arrivals = [each for each in self._arrivals if each[0] > self.now]
        for host in arrived:
            _fill(host, value_on_host(host.dtype))

    def reset(self) -> None:
        """Undo what a test has set, finish all work and forget it. Tensors and graphs stay."""
        self.keeps_up, self.waits_allowed, self.fault = True, True, None
        self.finish()
        self.launches.clear()
        self.caches_emptied = 0

    def names(self, stream: int) -> list[str]:
        """The names of everything launched on one stream."""
        return [launch.name for launch in self.launches if launch.stream == stream]

    def _raise_fault(self) -> None:
        if self.fault is not None:
            raise self.fault


class Stream:
    """Stands in for torch.cuda.Stream."""

    def __init__(self, fake: Device, device: object = None, priority: int = 0) -> None:
        self._fake = fake
        self.number = len(fake.streams)
        self.ends = fake.now  # when its last work so far ends
        fake.streams.append(self)

    def add(self, name: str, seconds: float) -> None:
        self._fake.launches.append(Launch(self.number, name))
        self.ends = max(self.ends, self._fake.now) + seconds

    def wait_stream(self, other: Stream) -> None:
        self.ends = max(self.ends, other.ends)
        self._fake.launches.append(Launch(self.number, f"wait for stream {other.number}"))

    def wait_event(self, event: Event) -> None:
        self.ends = max(self.ends, event.time)
        self._fake.launches.append(Launch(self.number, "wait for event"))

    def record_event(self, event: Event | None = None) -> Event:
        event = Event(self._fake) if event is None else event
        event.record(self)
        return event

    def query(self) -> bool:
        return self._fake.now >= self.ends

    def synchronize(self) -> None:
        if not self._fake.waits_allowed:
            raise DeviceMisuse("Stream.synchronize makes the host wait for the device")
        self._fake.finish("Stream.synchronize", self.ends)


class Event:
    """Stands in for torch.cuda.Event; one that was never recorded has finished."""

    def __init__(
        self,
        fake: Device,
        enable_timing: bool = False,
        blocking: bool = False,
        interprocess: bool = False,
        external: bool = False,
    ) -> None:
        self._fake = fake
        self._timed = enable_timing
        self.time = -math.inf

    def record(self, stream: Stream | None = None) -> None:
        stream = self._fake.stream if stream is None else stream
        self.time = max(stream.ends, self._fake.now)
        self._fake.launches.append(Launch(stream.number, "event"))

    def wait(self, stream: Stream | None = None) -> None:
        (self._fake.stream if stream is None else stream).wait_event(self)

    def query(self) -> bool:
        return self._fake.now >= self.time

    def synchronize(self) -> None:
        self._fake.finish("Event.synchronize", self.time)

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds from this event to ``end``, both of them timed and finished."""
        for event in (self, end):
            if not event._timed or event.time == -math.inf:
                raise ValueError("Both events must be created with argument 'enable_timing=True'.")
            if not event.query():
                raise RuntimeError("CUDA error: device not ready")
        return (end.time - self.time) * 1e3


def value_on_host(dtype: torch.dtype) -> float | int:
    """What the host reads of any tensor on the device."""
    return 0.0 if dtype.is_floating_point else 1


@torch.inference_mode()
def _fill(host: Tensor, value: float) -> None:
    host.fill_(value)
