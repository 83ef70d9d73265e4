"""Attention: picks the fastest of torch's attention kernels for a model's shape on its device.

Only timing can tell: DiT-XL/2 has heads of 72, not a multiple of the 16 that tensor cores prefer,
and each kernel pads differently. Naming a kernel skips torch's own checks of it, such as the one for
cuDNN, which before 9.15 is wrong for some numbers of tokens (pytorch #169849). So every kernel's
result is compared with that of the plain formula first.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from model.device import DeviceLost, device_faults
from model.networks.blocks import attend

BACKENDS = (
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
)
TRIALS = 10

ROUNDING = {torch.float32: 1e-3, torch.float16: 5e-3, torch.bfloat16: 2e-2}
"""Largest error by dtype that counts as rounding, relative to the largest value of the result."""

SCORES_AT_ONCE = 1 << 26
"""Attention scores of one call of the plain formula, which keeps them all: 256 MiB in fp32."""

Shape = tuple[int, int, int, int]
Report = Callable[[str], None]


@torch.inference_mode()
def fastest_backend(
    shape: Shape,
    *,
    dtype: torch.dtype,
    device: torch.device,
    report: Report,
    clock: Callable[[], float] = time.perf_counter,
) -> SDPBackend:
    """The fastest backend for q, k and v of shape (N, heads, T, head_dim), as `attend` makes them.

    It agrees with MATH. If no other backend works, it is MATH.

    Args:
        shape: of q, k and v.
        dtype: of q, k and v.
        device: where to measure.
        report: called with one line for each backend that does not agree with MATH.
        clock: in seconds.

    Raises:
        DeviceLost: a backend broke the device.
        OutOfMemory: not enough device memory for the inputs or for the plain formula.
    """
    with device_faults(), _quiet_torch():
        qkv, heads = sample_qkv(shape, dtype=dtype, device=device), shape[1]
        seconds = {each: _seconds(qkv, heads, each, report, clock) for each in BACKENDS}
    fastest = min(seconds, key=lambda backend: seconds[backend])
    return fastest if seconds[fastest] < float("inf") else SDPBackend.MATH


def sample_qkv(shape: Shape, *, dtype: torch.dtype, device: torch.device) -> Tensor:
    """q, k and v of shape (N, heads, T, head_dim) side by side: the same normal numbers every time."""
    N, heads, T, head_dim = shape
    generator = torch.Generator(device).manual_seed(0)
    size = (N, T, 3 * heads * head_dim)
    return torch.randn(size, generator=generator, device=device, dtype=dtype)


def relative_error(result: Tensor, qkv: Tensor, heads: int) -> float:
    """Largest error of an attention's result (N, T, D), relative to its largest value.

    The reference is MATH in fp32; a result that is not finite gives NaN or infinity.
    """
    T = qkv.shape[1]
    at_once = max(1, SCORES_AT_ONCE // (heads * T * T))
    errors = []
    with sdpa_kernel(SDPBackend.MATH):
        for given, part in zip(torch.split(result, at_once), torch.split(qkv, at_once)):
            expected = attend(part.float(), heads)
            errors.append((given.float() - expected).abs().max() / expected.abs().max())
    return float(torch.stack(errors).max())


def _seconds(
    qkv: Tensor, heads: int, backend: SDPBackend, report: Report, clock: Callable[[], float]
) -> float:
    """Time of ``TRIALS`` calls; infinite if the backend is wrong or does not support the shape."""
    try:
        with device_faults(), sdpa_kernel(backend):
            result = attend(qkv, heads)
            seconds = seconds_of(lambda: attend(qkv, heads), qkv.device, clock)
    except DeviceLost:
        raise
    except RuntimeError:  # "No available kernel", or out of memory
        return float("inf")
    error = relative_error(result, qkv, heads)
    if error <= ROUNDING[qkv.dtype]:
        return seconds
    report(f"attention: {backend.name} is not used, its error is {error:.1%}")  # also if it is NaN
    return float("inf")


def seconds_of(
    call: Callable[[], object], device: torch.device, clock: Callable[[], float]
) -> float:
    """Time of ``TRIALS`` calls."""
    _synchronize(device)
    began = clock()
    for _ in range(TRIALS):
        call()
    _synchronize(device)
    return clock() - began


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _quiet_torch() -> Iterator[None]:
    """Silence torch's warnings that say why a backend does not support the shape."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
