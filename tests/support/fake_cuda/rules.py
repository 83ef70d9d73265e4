"""Rules: what an operation on the device must not do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch._ops import OpOverload

from tests.support.fake_cuda.misuse import DeviceMisuse
from tests.support.fake_cuda.tensors import on_host

aten = torch.ops.aten
INDEXED = {
    aten.index.Tensor,
    aten.index_put_.default,
    aten.index_put.default,
    aten.index_select.default,
    aten.index_copy_.default,
    aten.gather.default,
}
DROPOUT_OFF = {"dropout_p": 0.0, "p": 0.0, "train": False}


def check_capture(
    func: OpOverload,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    tensors: Sequence[Tensor],
) -> None:
    """What a captured graph could not repeat.

    Args:
        func: the operation.
        args: its arguments.
        kwargs: its keyword arguments.
        tensors: those among the arguments, if the operation concerns the device.

    Raises:
        DeviceMisuse: the operation draws random numbers, or takes a CPU tensor to the device.
    """
    if draws(func, args, kwargs):
        raise DeviceMisuse(f"{func}: a random operation under capture")
    if any(map(on_host, tensors)):
        raise DeviceMisuse(f"{func}: a CPU tensor under capture; replays would not read it again")


def check_devices(func: OpOverload, tensors: Sequence[Tensor]) -> None:
    """An operation other than a copy takes CPU tensors only as numbers, without dimensions.

    Raises:
        DeviceMisuse: it takes a larger one.
    """
    hosts = [tensor for tensor in tensors if on_host(tensor) and tensor.ndim]
    if not hosts:
        return
    shape = tuple(hosts[0].shape)
    if func in INDEXED and hosts[0].dtype in (torch.int64, torch.int32, torch.bool):
        raise DeviceMisuse(f"{func}: a CPU index {shape} into a CUDA tensor")
    raise DeviceMisuse(f"{func}: a CPU tensor {shape} among CUDA tensors")


def draws(func: OpOverload, args: Sequence[object], kwargs: Mapping[str, object]) -> bool:
    """Whether it draws random numbers; dropout that is off does not."""
    if torch.Tag.nondeterministic_seeded not in func.tags:
        return False
    arguments = func._schema.arguments
    given = {each.name: each.default_value for each in arguments if each.has_default_value()}
    given |= dict(zip((each.name for each in arguments), args)) | dict(kwargs)
    return not any(name in given and given[name] == off for name, off in DROPOUT_OFF.items())


def reads_value(func: OpOverload) -> bool:
    """Whether its result is a number on the host."""
    return torch.Tag.data_dependent_output in func.tags or func is aten.is_nonzero.default


def has_unknown_shape(func: OpOverload, tensors: Sequence[Tensor]) -> bool:
    """Whether the result's shape depends on values, as that of nonzero or of a mask does."""
    if func is aten.index.Tensor:
        return any(tensor.dtype in (torch.bool, torch.uint8) for tensor in tensors[1:])
    return torch.Tag.dynamic_output_shape in func.tags


def launches_kernel(func: OpOverload) -> bool:
    """Whether it computes something, which views and fresh memory do not."""
    if func.namespace == "prim" or "empty" in str(func):
        return False
    results = [each.alias_info for each in func._schema.returns]
    return not any(alias is not None and not alias.is_write for alias in results)
