"""Shapes: what operations give, apart from values."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import Generator, Tensor
from torch._ops import OpOverload
from torch.utils._pytree import tree_map

from tests.support.fake_cuda.tensors import CudaTensor, on_device

META = torch.device("meta")


class Shapes:
    """Applies operations to the shapes of tensors on the device.

    torch takes up to a millisecond to derive a shape, so those of fresh tensors are kept.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[torch.Size, tuple[int, ...], torch.dtype]] = {}

    def apply(
        self, func: OpOverload, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> object:
        """The operation's result. What it changes in place is returned itself."""
        if not _makes_one_tensor(func):
            return _apply(func, args, kwargs)
        key = (func, _key(args), _key(kwargs))
        if key in self._kept:
            size, stride, dtype = self._kept[key]
            return CudaTensor(torch.empty_strided(size, stride, dtype=dtype, device=META))
        result = _apply(func, args, kwargs)
        if on_device(result):
            self._kept[key] = result.shape, result.stride(), result.dtype
        return result


def _makes_one_tensor(func: OpOverload) -> bool:
    """Whether the result is a fresh tensor."""
    returns = func._schema.returns
    return len(returns) == 1 and str(returns[0].type) == "Tensor" and not returns[0].alias_info


def _key(value: object) -> Hashable:
    """What an argument's part in the result's shape depends on."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(map(_key, value))
    if isinstance(value, Mapping):
        return tuple((name, _key(each)) for name, each in value.items())
    return type(value), str(value)


def _apply(func: OpOverload, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
    given: dict[int, CudaTensor] = {}

    def without_device(value: object) -> object:
        if on_device(value):
            given[id(value.meta)] = value
            return value.meta
        if isinstance(value, Generator):
            return None  # nothing is drawn
        return META if isinstance(value, torch.device) else value

    def with_device(value: object) -> object:
        if not isinstance(value, Tensor) or not value.is_meta:
            return value
        return given[id(value)] if id(value) in given else CudaTensor(value)

    args, kwargs = tree_map(without_device, (tuple(args), dict(kwargs)))
    return tree_map(with_device, func(*args, **kwargs))
