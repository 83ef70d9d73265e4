"""REWRITES: calls of torch that need a guard for the device, as operations of aten that need none.

A CPU build of torch has no guard for CUDA, and these calls ask for one before anything can watch them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tests.support.fake_cuda.subscripts import assign, subscript
from tests.support.fake_cuda.tensors import on_device

aten = torch.ops.aten
Function = Callable[..., object]


class Replacing(TorchFunctionMode):
    """Calls functions of torch by other functions, which may call the original."""

    def __init__(self, replacements: Mapping[Function, Function]) -> None:
        super().__init__()
        self._replacements = replacements

    def __torch_function__(
        self,
        func: Function,
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        return self._replacements.get(func, func)(*args, **(kwargs or {}))


def _getitem(tensor: Tensor, key: object) -> Tensor:
    if on_device(tensor):
        return subscript(tensor, key)
    return tensor[key]  # type: ignore[index]


def _setitem(tensor: Tensor, key: object, value: object) -> None:
    if on_device(tensor):
        assign(tensor, key, value)
    else:
        tensor[key] = value  # type: ignore[index, assignment]


def _copy(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    if on_device(target) or on_device(source):
        aten.copy_.default(target, source, non_blocking)
        return target
    return target.copy_(source, non_blocking)


def to(tensor: Tensor, *args: object, copy: bool = False, **options: object) -> Tensor:
    """`Tensor.to`, with all of its signatures."""
    if args and isinstance(args[0], Tensor):
        args = (args[0].device, args[0].dtype, *args[1:])
    device, dtype, non_blocking, layout = torch._C._nn._parse_to(  # type: ignore[call-overload]
        *args, **options
    )
    device, dtype = device or tensor.device, dtype or tensor.dtype
    if not on_device(tensor) and device.type != "cuda":
        return tensor.to(device, dtype, non_blocking, copy, memory_format=layout)
    unchanged = (device.type, dtype, layout) == (tensor.device.type, tensor.dtype, None)
    if unchanged and not copy:
        return tensor
    copied: Tensor = aten._to_copy.default(
        tensor, dtype=dtype, device=device, non_blocking=bool(non_blocking), memory_format=layout
    )
    return copied


def _cuda(tensor: Tensor, device: object = None, non_blocking: bool = False) -> Tensor:
    return to(tensor, "cuda", non_blocking=non_blocking)


REWRITES: Mapping[Function, Function] = {
    Tensor.__getitem__: _getitem,
    Tensor.__setitem__: _setitem,
    Tensor.copy_: _copy,
    Tensor.__invert__: aten.bitwise_not.default,
    Tensor.contiguous: aten.contiguous.default,
    Tensor.to: to,
    Tensor.cpu: lambda tensor: to(tensor, "cpu"),
    Tensor.cuda: _cuda,
    Tensor.float: lambda tensor: to(tensor, torch.float32),
}
