"""fake_cuda: puts the fake device in the place of torch's for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import pytest
import torch
import torch._dynamo  # the modes need it; imported later it would see our stand-ins
from torch import Generator, Tensor

from model.runner.runner import ModelRunner
from tests.support.fake_cuda.api import Api
from tests.support.fake_cuda.dispatch import DeviceMode
from tests.support.fake_cuda.host import host_functions
from tests.support.fake_cuda.rewrites import REWRITES, Replacing
from tests.support.fake_cuda.streams import Device
from tests.support.fake_cuda.tensors import PinnedMemory


class HostGenerator(Generator):
    """A generator on the CPU, whatever device it is asked for: nothing is drawn on the fake one."""

    def __new__(cls, device: object = None) -> Self:
        return super().__new__(cls)


@contextmanager
def fake_cuda() -> Iterator[Device]:
    """Give the calling thread one CUDA device; what is on it is of no use afterwards."""
    fake, pinned = Device(), PinnedMemory()
    functions = Replacing({**REWRITES, **host_functions(fake, pinned)})
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():  # autograd needs a guard, too
        _replace(patch, Api(fake))
        with DeviceMode(fake, pinned), functions:
            yield fake


@contextmanager
def no_waits() -> Iterator[None]:
    """In this block the device raises whatever makes the host wait for it; a real one does, too."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def forbid_waits(runner: ModelRunner) -> None:
    """From now on no tick and no start of a decode may wait for the device."""
    for name in ("tick", "start_decode"):
        setattr(runner, name, no_waits()(getattr(runner, name)))


def _replace(patch: pytest.MonkeyPatch, api: Api) -> None:
    """What neither mode can watch."""
    for name, replacement in api.replacements().items():
        patch.setattr(torch.cuda, name, replacement)
    patch.setattr(Tensor, "record_stream", lambda *given: api.record_stream(*given))
    patch.setattr(torch, "Generator", HostGenerator)
    # Otherwise Module.to puts what `CudaTensor` adds to a tensor aside.
    patch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
