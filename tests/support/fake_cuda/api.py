"""Api: the functions and classes of torch.cuda, for the fake device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import torch
from torch import Tensor

from tests.support.fake_cuda.graphs import Capture, Graph
from tests.support.fake_cuda.misuse import DeviceMisuse
from tests.support.fake_cuda.streams import Device, Event, Launch, Stream
from tests.support.fake_cuda.tensors import on_device

ALLOCATED_BYTES, RESERVED_BYTES, TOTAL_BYTES = 1 << 30, 2 << 30, 80 << 30


class Api:
    """Stands in for the parts of torch.cuda that the code uses."""

    def __init__(self, fake: Device) -> None:
        self._fake = fake

    def replacements(self) -> dict[str, object]:
        """What to put into torch.cuda, by name."""
        fake = self._fake
        return {
            "Stream": partial(Stream, fake),
            "Event": partial(Event, fake),
            "CUDAGraph": partial(Graph, fake),
            "graph": partial(Capture, fake),
            "stream": self.stream,
            "current_stream": lambda device=None: fake.stream,
            "default_stream": lambda device=None: fake.default_stream,
            "is_current_stream_capturing": lambda: fake.capture is not None,
            "synchronize": self.synchronize,
            "set_sync_debug_mode": self.set_sync_debug_mode,
            "set_device": self.set_device,
            "current_device": lambda: 0,
            "device_count": lambda: 1,
            "is_available": lambda: True,
            "is_initialized": lambda: True,
            "_lazy_init": lambda: None,
            "init": lambda: None,
            "empty_cache": self.empty_cache,
            "memory_allocated": lambda device=None: ALLOCATED_BYTES,
            "memory_reserved": lambda device=None: RESERVED_BYTES,
            "mem_get_info": lambda device=None: (TOTAL_BYTES - RESERVED_BYTES, TOTAL_BYTES),
            "get_device_properties": lambda device=None: SimpleNamespace(total_memory=TOTAL_BYTES),
            "get_device_name": lambda device=None: "fake device",
            "get_device_capability": lambda device=None: (9, 0),
        }

    @contextmanager
    def stream(self, stream: Stream | None) -> Iterator[None]:
        before = self._fake.stream
        self._fake.stream = before if stream is None else stream
        try:
            yield
        finally:
            self._fake.stream = before

    def synchronize(self, device: object = None) -> None:
        if not self._fake.waits_allowed:
            raise DeviceMisuse("torch.cuda.synchronize makes the host wait for the device")
        self._fake.finish("torch.cuda.synchronize")

    def set_sync_debug_mode(self, mode: int | str) -> None:
        self._fake.waits_allowed = mode not in ("error", 2)

    def set_device(self, device: object) -> None:
        """Refuses what torch refuses: a device without an index, or one that does not exist."""
        index = device if isinstance(device, int) else torch.device(str(device)).index
        if index is None:
            raise ValueError(f"Expected a torch.device with a specified index, but got: {device}")
        if index != 0:
            raise torch.AcceleratorError("CUDA error: invalid device ordinal")

    def empty_cache(self) -> None:
        self._fake.caches_emptied += 1

    def record_stream(self, tensor: Tensor, stream: Stream) -> None:
        """Stands in for `Tensor.record_stream`."""
        if not on_device(tensor):
            raise DeviceMisuse("record_stream of a CPU tensor")
        self._fake.launches.append(Launch(stream.number, "record_stream"))
