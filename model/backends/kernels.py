"""Kernels: what is elementwise in a DiT block, fused into Triton kernels for CUDA.

Plain torch runs one kernel per operation, and each reads and writes all tokens once more. Here, what
lies between two products is one kernel: it computes in fp32 and rounds only what it stores.

Importing this module requires Triton. Nothing is compiled before the first call.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
import triton
import triton.language as tl
from torch import Tensor

EPSILON = tl.constexpr(1e-6)
"""Added to the layer norm's variance, as in `model.networks.blocks.modulate`."""

OPTIONS = {"enable_fp_fusion": True}
"""Products and sums may fuse. Explicit, because Triton 3.9 warns that its default will change."""

TOLERANCE = 1e-5
"""Accepted difference besides rounding to the dtype, relative to the largest value."""


def compare(ours: Tensor, theirs: Tensor) -> None:
    """Compare a kernel's values with torch's.

    Raises:
        RuntimeError: they differ by more than rounding.
    """
    error = ((ours.float() - theirs).abs().max() / theirs.abs().max()).item()
    if not error <= torch.finfo(ours.dtype).eps + TOLERANCE:  # also if it is NaN
        raise RuntimeError(f"a kernel's values differ from torch's by {error:.1g}")


def norm_modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """`model.networks.blocks.modulate`: tokens (N, T, D), vectors (N, 1, D) -> (N, T, D)."""
    N, T, D = _checked(x, shift, scale)
    out = torch.empty_like(x)
    with device_of(x):
        _norm_modulate[(T, N)](x, shift, scale, out, shift.stride(0), D, **norm_launch(D))
    return out


def add_norm_modulate(
    x: Tensor, gate: Tensor, y: Tensor, *, shift: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """The residual connection of one layer and the modulation that the next one starts with.

    Args:
        x: tokens (N, T, D).
        gate: of the layer, (N, 1, D).
        y: what the layer made of the tokens, (N, T, D).
        shift: of the next layer, (N, 1, D).
        scale: of the next layer, with the 1 added, (N, 1, D).

    Returns:
        ``x + gate * y``, and its layer norm times ``scale`` plus ``shift``; both (N, T, D).
    """
    N, T, D = _checked(x, gate, shift, scale)
    assert y.shape == x.shape, "this is a bug: the layer changed the tokens' shape"
    assert y.is_contiguous(), "this is a bug: the layer's tokens are strided"
    total, out = torch.empty_like(x), torch.empty_like(x)
    with device_of(x):
        _add_norm_modulate[(T, N)](
            x, gate, y, shift, scale, total, out, shift.stride(0), D, **norm_launch(D)
        )
    return total, out


def add_gelu_(x: Tensor, bias: Tensor) -> Tensor:
    """Add a bias (D,) to (N, T, D) and apply the tanh GELU, in place; returns ``x``.

    GELU(x) = x sigmoid(2 u) with u = sqrt(2 / pi) (x + 0.044715 x^3), which is the usual
    x (1 + tanh(u)) / 2 (Hendrycks & Gimpel 2016, arXiv 1606.08415) without its cancellation.
    """
    assert x.is_contiguous(), "this is a bug: the tokens are strided"
    D = x.shape[-1]
    rows = x.numel() // D
    launch = gelu_launch()
    grid = (triton.cdiv(rows, launch["ROWS"]), triton.cdiv(D, launch["COLUMNS"]))
    with device_of(x):
        _add_gelu[grid](x, bias, rows, D, **launch)
    return x


def norm_launch(width: int) -> dict[str, int]:
    """One token per program, with its whole width in registers: 8 to 16 values per thread."""
    block: int = triton.next_power_of_2(width)
    return {"BLOCK": block, "num_warps": min(max(block // 512, 1), 16), **OPTIONS}


def gelu_launch() -> dict[str, int]:
    """A tile of 4 tokens, for which the bias is read once: 16 values per thread."""
    return {"ROWS": 4, "COLUMNS": 512, "num_warps": 4, **OPTIONS}


def _checked(x: Tensor, *vectors: Tensor) -> tuple[int, int, int]:
    """The tokens' shape. All vectors must be views into one tensor, as `modulation_vectors` makes."""
    N, T, D = x.shape
    assert x.is_contiguous(), "this is a bug: the tokens are strided"
    for each in vectors:
        assert each.shape == (N, 1, D), "this is a bug: not one vector per row"
        assert each.stride() == vectors[0].stride(), "this is a bug: vectors of two tensors"
    return N, T, D


def device_of(x: Tensor) -> AbstractContextManager[None]:
    """Make the tensor's device the current one: Triton launches there, not where its arguments are."""
    device: AbstractContextManager[None] = torch.cuda.device_of(x)  # type: ignore[no-untyped-call]
    return device


@triton.jit
def _norm_modulate(
    x: tl.tensor,
    shift: tl.tensor,
    scale: tl.tensor,
    out: tl.tensor,
    vector_stride: tl.tensor,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    row, columns = tl.program_id(1).to(tl.int64), tl.arange(0, BLOCK)
    inside = columns < D
    token = (row * tl.num_programs(0) + tl.program_id(0)) * D + columns
    vector = row * vector_stride + columns
    values = tl.load(x + token, mask=inside, other=0.0).to(tl.float32)
    shifts = tl.load(shift + vector, mask=inside, other=0.0).to(tl.float32)
    scales = tl.load(scale + vector, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + token, _layer_norm(values, inside, D) * scales + shifts, mask=inside)


@triton.jit
def _add_norm_modulate(
    x: tl.tensor,
    gate: tl.tensor,
    y: tl.tensor,
    shift: tl.tensor,
    scale: tl.tensor,
    total: tl.tensor,
    out: tl.tensor,
    vector_stride: tl.tensor,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    row, columns = tl.program_id(1).to(tl.int64), tl.arange(0, BLOCK)
    inside = columns < D
    token = (row * tl.num_programs(0) + tl.program_id(0)) * D + columns
    vector = row * vector_stride + columns
    before = tl.load(x + token, mask=inside, other=0.0).to(tl.float32)
    added = tl.load(y + token, mask=inside, other=0.0).to(tl.float32)
    gates = tl.load(gate + vector, mask=inside, other=0.0).to(tl.float32)
    shifts = tl.load(shift + vector, mask=inside, other=0.0).to(tl.float32)
    scales = tl.load(scale + vector, mask=inside, other=0.0).to(tl.float32)
    values = before + gates * added
    tl.store(total + token, values, mask=inside)
    tl.store(out + token, _layer_norm(values, inside, D) * scales + shifts, mask=inside)


@triton.jit
def _layer_norm(values: tl.tensor, inside: tl.tensor, D: tl.constexpr) -> tl.tensor:
    mean = tl.sum(values, axis=0) / D
    centred = tl.where(inside, values - mean, 0.0)
    variance = tl.sum(centred * centred, axis=0) / D
    return centred * tl.rsqrt(variance + EPSILON)


@triton.jit(do_not_specialize=["rows"])
def _add_gelu(
    x: tl.tensor,
    bias: tl.tensor,
    rows: tl.tensor,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row < rows)[:, None] & (column < D)[None, :]
    place = row.to(tl.int64)[:, None] * D + column[None, :]
    biases = tl.load(bias + column, mask=column < D, other=0.0).to(tl.float32)
    values = tl.load(x + place, mask=inside, other=0.0).to(tl.float32) + biases[None, :]
    u = 0.7978845608028654 * (values + 0.044715 * values * values * values)
    tl.store(x + place, values * tl.sigmoid(2 * u), mask=inside)
