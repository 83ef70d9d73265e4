"""Tensors: those on the fake device, and the host's in pinned memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self, TypeGuard

import torch
from torch import Tensor

from tests.support.fake_cuda.misuse import DeviceMisuse

CUDA = torch.device("cuda", 0)


class CudaTensor(Tensor):
    """A tensor on "cuda:0" without values; ``meta`` has its shape, strides and dtype.

    torch's own FakeTensor does not do: it derives some shapes by calls that need a build with CUDA.
    """

    meta: Tensor

    @staticmethod
    def __new__(cls, meta: Tensor) -> Self:
        with torch.inference_mode(meta.is_inference()):
            tensor: Self = Tensor._make_wrapper_subclass(
                cls,
                meta.size(),
                strides=meta.stride(),
                storage_offset=meta.storage_offset(),
                dtype=meta.dtype,
                device=CUDA,
            )
        tensor.meta = meta
        return tensor

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: object,
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        raise DeviceMisuse(f"{func} on a tensor of the fake device, outside its block or thread")

    def __repr__(self) -> str:  # type: ignore[override]
        return f"CudaTensor({tuple(self.shape)}, {self.dtype})"


def on_device(value: object) -> TypeGuard[CudaTensor]:
    return isinstance(value, CudaTensor)


def on_host(value: object) -> TypeGuard[Tensor]:
    """Whether it is a CPU tensor; those on "meta" are on neither."""
    return isinstance(value, Tensor) and not on_device(value) and value.device.type == "cpu"


def names_cuda(value: object) -> bool:
    """Whether it is a device or a device's name, and means CUDA."""
    return isinstance(value, str | torch.device) and str(value).split(":")[0] == "cuda"


class PinnedMemory:
    """The host memory that counts as pinned; views of it are pinned, too."""

    def __init__(self) -> None:
        self._tensors: dict[int, Tensor] = {}  # kept, so that no address is used twice

    def pin(self, tensor: Tensor) -> Tensor:
        """Mark a tensor's memory."""
        self._tensors[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    def holds(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self._tensors
