"""Rules: what an operation on the device must not do."""

from __future__ import annotations

from collections.abc import Sequence

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


def check_capture(func: OpOverload, args: Sequence[object], tensors: Sequence[Tensor]) -> None:
    """What a captured graph could not repeat.

    Raises:
        DeviceMisuse: the operation draws random numbers, or takes a CPU tensor to the device.
    """
    if draws(func, args):
        raise DeviceMisuse(f"{func}: a random operation under capture; each replay repeats its draw")
    if any(map(on_host, tensors)) and not all(map(on_host, tensors)):
        raise DeviceMisuse(f"{func}: a CPU tensor under capture; its value freezes in the graph")


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


def draws(func: OpOverload, args: Sequence[object]) -> bool:
    """Whether it draws random numbers; dropout that is off does not."""
    if torch.Tag.nondeterministic_seeded not in func.tags:
        return False
    off = {"dropout_p": 0.0, "p": 0.0, "train": False, "training": False}
    given = dict(zip((argument.name for argument in func._schema.arguments), args))
    optional = given.keys() & off.keys()
    if "scaled_dot_product" in str(func):
        return bool(given.get("dropout_p", 0.0))
    return not optional or all(given[name] != off[name] for name in optional)


def reads_value(func: OpOverload) -> bool:
    """Whether its result is a number on the host."""
    return torch.Tag.data_dependent_output in func.tags or func is aten.is_nonzero.default


def has_unknown_shape(func: OpOverload) -> bool:
    """Whether the result's shape depends on values, as that of nonzero does."""
    return torch.Tag.dynamic_output_shape in func.tags


def launches_kernel(func: OpOverload) -> bool:
    """Whether it computes something, which views and fresh memory do not."""
    if func.namespace == "prim" or "empty" in func.name():
        return False
    results = [each.alias_info for each in func._schema.returns]
    return not any(alias is not None and not alias.is_write for alias in results)
