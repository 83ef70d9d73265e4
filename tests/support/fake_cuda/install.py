"""fake_cuda: puts the fake device in the place of torch's for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from tests.support.fake_cuda.api import Api
from tests.support.fake_cuda.dispatch import DeviceMode
from tests.support.fake_cuda.functions import host_functions
from tests.support.fake_cuda.guardless import GUARDLESS, Replacing
from tests.support.fake_cuda.streams import Device
from tests.support.fake_cuda.tensors import PinnedMemory


@contextmanager
def fake_cuda() -> Iterator[Device]:
    """Give the calling thread one CUDA device; what is on it is of no use afterwards."""
    fake, pinned = Device(), PinnedMemory()
    with pytest.MonkeyPatch.context() as patch:
        api = Api(fake)
        for name, replacement in api.replacements().items():
            patch.setattr(torch.cuda, name, replacement)
        patch.setattr(Tensor, "record_stream", lambda *given: api.record_stream(*given))
        with DeviceMode(fake, pinned), Replacing({**GUARDLESS, **host_functions(pinned)}):
            yield fake
