"""Host functions: pinned memory, and reading of tensors, which a CPU build of torch cannot do."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from tests.support.fake_cuda.misuse import DeviceMisuse
from tests.support.fake_cuda.rewrites import Function, to
from tests.support.fake_cuda.streams import Device
from tests.support.fake_cuda.tensors import PinnedMemory, names_cuda, on_device

NUMBERS = (Tensor.__float__, Tensor.__int__, Tensor.__index__)


def host_functions(fake: Device, pinned: PinnedMemory) -> Mapping[Function, Function]:
    """Functions of torch and what to call in their place."""
    return {
        Tensor.pin_memory: lambda tensor: pinned.pin(tensor.clone()),
        Tensor.is_pinned: pinned.holds,
        torch.tensor: _tensor,
        torch.as_tensor: _tensor,
        torch.nonzero: _nonzero,
        Tensor.nonzero: _nonzero,
        Tensor.numpy: _numpy,
        Tensor.tolist: lambda tensor: _tolist(tensor, fake),
        **{make: _pinning(make, pinned) for make in (torch.empty, torch.zeros, torch.empty_like)},
        **{read: _reading(read) for read in NUMBERS},
    }


def _pinning(make: Callable[..., Tensor], pinned: PinnedMemory) -> Function:
    """A function that makes tensors, in pinned memory if asked to."""

    def made(*args: object, pin_memory: bool = False, **options: object) -> Tensor:
        tensor = make(*args, **options)
        return pinned.pin(tensor) if pin_memory else tensor

    return made


def _tensor(
    data: object, dtype: torch.dtype | None = None, device: str | torch.device | None = None
) -> Tensor:
    if names_cuda(device):
        return to(torch.tensor(data, dtype=dtype), device)
    return torch.tensor(data, dtype=dtype, device=device)


def _numpy(tensor: Tensor, *, force: bool = False) -> np.ndarray:
    if on_device(tensor):
        raise DeviceMisuse("numpy() of a CUDA tensor: copy it to the host first")
    return tensor.numpy(force=force)


def _tolist(tensor: Tensor, fake: Device) -> object:
    if on_device(tensor):
        fake.wait("Tensor.tolist")
        tensor = tensor.cpu()
    return tensor.tolist()


def _nonzero(tensor: Tensor, *, as_tuple: bool = False) -> object:
    if on_device(tensor):
        raise DeviceMisuse("nonzero waits for the device: its result's shape depends on values")
    return tensor.nonzero(as_tuple=True) if as_tuple else tensor.nonzero()


def _reading(read: Callable[[Tensor], float]) -> Function:
    """One of `NUMBERS`, by way of `Tensor.item`."""

    def number(tensor: Tensor) -> float:
        if on_device(tensor):
            return read(torch.tensor(tensor.item()))
        return read(tensor)

    return number
