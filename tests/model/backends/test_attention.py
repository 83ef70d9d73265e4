"""The attention backend chosen is one that the device supports."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import sdpa_kernel

from model.backends.attention import BACKENDS, fastest_backend


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch says why a kernel is unavailable
@pytest.mark.parametrize("shape", [(2, 4, 16, 64), (1, 16, 64, 72)])
def test_the_chosen_backend_computes_attention(shape: tuple[int, int, int, int]) -> None:
    backend = fastest_backend(shape, dtype=torch.float32, device=torch.device("cpu"))
    assert backend in BACKENDS
    q = torch.randn(shape)
    with sdpa_kernel(backend):
        chosen = F.scaled_dot_product_attention(q, q, q)
    torch.testing.assert_close(chosen, F.scaled_dot_product_attention(q, q, q))


@pytest.mark.gpu
def test_a_fused_backend_is_chosen_for_the_largest_model_on_cuda() -> None:
    shape = (128, 16, 256, 72)
    backend = fastest_backend(shape, dtype=torch.bfloat16, device=torch.device("cuda:0"))
    assert backend in BACKENDS[:3]
