"""DeviceMode: runs every operation of torch on the CPU or, without values, on the fake device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.support.fake_cuda.copies import Copies
from tests.support.fake_cuda.misuse import DeviceMisuse
from tests.support.fake_cuda.rules import (
    check_capture,
    check_devices,
    has_unknown_shape,
    launches_kernel,
    reads_value,
)
from tests.support.fake_cuda.shapes import Shapes
from tests.support.fake_cuda.streams import Device, value_on_host
from tests.support.fake_cuda.tensors import (
    PinnedMemory,
    names_cuda,
    on_device,
)

aten = torch.ops.aten


class DeviceMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches operations at the level of aten, where all of them pass."""

    def __init__(self, fake: Device, pinned: PinnedMemory) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._fake = fake
        self._copies = Copies(fake, pinned)
        self._shapes = Shapes()

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        concerns_device = names_cuda(kwargs.get("device")) or any(map(on_device, tensors))
        if self._fake.capture is not None:
            check_capture(func, args, kwargs, tensors if concerns_device else ())
        if not concerns_device:
            return func(*args, **kwargs)
        if func is aten._to_copy.default:
            return self._copies.to_copy(*args, **kwargs)  # type: ignore[arg-type]
        if func is aten.copy_.default:
            return self._copies.copy(*tensors, non_blocking=args[2:] == (True,))
        return self._compute(func, tensors, args, kwargs)

    def _compute(
        self,
        func: OpOverload,
        tensors: Sequence[Tensor],
        args: Sequence[object],
        kwargs: Mapping[str, object],
    ) -> object:
        """Anything but a copy."""
        check_devices(func, tensors)
        if has_unknown_shape(func, tensors):
            raise DeviceMisuse(f"{func} waits for the device: its result's shape depends on values")
        if reads_value(func):
            return self._read(func, tensors[0].dtype)
        if launches_kernel(func):
            self._fake.launch(str(func))
        return self._shapes.apply(func, args, kwargs)

    def _read(self, func: OpOverload, dtype: torch.dtype) -> float:
        self._fake.wait(f"{func}, which reads a value as item() and bool() do,")
        compares = func in (aten.equal.default, aten.allclose.default)
        return compares or value_on_host(dtype)
