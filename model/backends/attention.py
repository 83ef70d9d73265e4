"""Attention: which of torch's kernels is the fastest for a model's shape on its device.

Nothing but the clock says so: DiT-XL/2 has heads of 72, which is no multiple of the 16 that tensor
cores like, and each kernel pads in its own way.
"""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

BACKENDS = (
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
)
TRIALS = 10


@torch.inference_mode()
def fastest_backend(
    shape: tuple[int, int, int, int], *, dtype: torch.dtype, device: torch.device
) -> SDPBackend:
    """The backend with the shortest attention over q, k and v of (N, heads, T, head_dim)."""
    q = torch.randn(shape, device=device).to(dtype)
    seconds = {backend: _seconds(q, backend) for backend in BACKENDS}
    return min(seconds, key=lambda backend: seconds[backend])


def _seconds(q: Tensor, backend: SDPBackend) -> float:
    """Time of some attentions; infinite where the backend does not have this shape."""
    try:
        with sdpa_kernel(backend):
            F.scaled_dot_product_attention(q, q, q)
            _wait(q.device)
            began = time.perf_counter()
            for _ in range(TRIALS):
                F.scaled_dot_product_attention(q, q, q)
            _wait(q.device)
    except RuntimeError:  # "No available kernel"; out of memory is one as well
        return float("inf")
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
