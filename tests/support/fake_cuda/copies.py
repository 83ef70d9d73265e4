"""Copies: between the host, whose memory is real, and the fake device, which has no values."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.support.fake_cuda.misuse import DeviceMisuse
from tests.support.fake_cuda.streams import Device
from tests.support.fake_cuda.tensors import CudaTensor, PinnedMemory, on_device, on_host


class Copies:
    """Copies as aten's ``_to_copy`` and ``copy_`` make them, at least one end on the device."""

    def __init__(self, fake: Device, pinned: PinnedMemory) -> None:
        self._fake = fake
        self._pinned = pinned

    def to_copy(
        self,
        source: Tensor,
        *,
        dtype: torch.dtype | None = None,
        layout: torch.layout | None = None,
        device: torch.device | None = None,
        pin_memory: bool | None = None,
        non_blocking: bool = False,
        memory_format: torch.memory_format | None = None,
    ) -> Tensor:
        """A new tensor with the values of ``source``."""
        dtype = dtype or source.dtype
        if device is not None and device.type != "cuda":
            target = torch.empty(source.shape, dtype=dtype, device=device)
            if target.is_meta:
                return target
            self._pinned.pin(target)  # torch, too, makes it pinned
        else:
            target = CudaTensor(
                torch.empty_like(
                    source.meta if on_device(source) else source,
                    dtype=dtype,
                    device="meta",
                    memory_format=memory_format or torch.preserve_format,
                )
            )
        return self.copy(target, source, non_blocking=non_blocking)

    def copy(self, target: Tensor, source: Tensor, *, non_blocking: bool) -> Tensor:
        """Overwrite ``target``, which may have another dtype or, for broadcasting, another shape."""
        shape = torch.broadcast_shapes(target.shape, source.shape)  # type: ignore[no-untyped-call]
        if shape != target.shape:
            raise RuntimeError(f"a tensor {tuple(source.shape)} copied to {tuple(target.shape)}")
        for host in filter(on_host, (target, source)):
            if non_blocking and not self._pinned.holds(host):
                raise DeviceMisuse(
                    f"a copy with non_blocking=True, but the host's tensor {tuple(host.shape)} is"
                    " not in pinned memory"
                )
        if on_host(target):
            self._fake.launch("copy to host", host=target)
        else:
            self._fake.launch("copy to device" if on_host(source) else "aten::copy_")
        if not non_blocking and (on_host(target) or on_host(source)):
            self._fake.wait("a copy without non_blocking=True")
        return target
