"""Attention: picks the fastest of torch's attention kernels for a model's shape on its device.

Only timing can tell: DiT-XL/2 has heads of 72, not a multiple of the 16 that tensor cores prefer,
and each kernel pads differently.
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
    """The fastest backend for q, k and v of shape (N, heads, T, head_dim)."""
    q = torch.randn(shape, device=device).to(dtype)
    seconds = {backend: _seconds(q, backend) for backend in BACKENDS}
    return min(seconds, key=lambda backend: seconds[backend])


def _seconds(q: Tensor, backend: SDPBackend) -> float:
    """Time of ``TRIALS`` calls; infinite if the backend does not support the shape."""
    try:
        with sdpa_kernel(backend):
            F.scaled_dot_product_attention(q, q, q)
            _synchronize(q.device)
            began = time.perf_counter()
            for _ in range(TRIALS):
                F.scaled_dot_product_attention(q, q, q)
            _synchronize(q.device)
    except RuntimeError:  # "No available kernel", or out of memory
        return float("inf")
    return time.perf_counter() - began


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
