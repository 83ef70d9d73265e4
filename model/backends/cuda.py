"""CUDA: a DiT's forward pass with what lies between two products fused into one kernel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.backends.attention import seconds_of
from model.backends.eager import EagerNetwork
from model.backends.kernels import add_gelu_, add_norm_modulate, compare, norm_modulate
from model.networks.blocks import VECTORS_PER_BLOCK, DiTBlock, modulate
from model.networks.dit import DiT

SAMPLE_ROWS, SAMPLE_TOKENS = 2, 16
"""Rows and tokens on which `check_kernels` compares the kernels with torch."""

GELU_ROWS = 16
"""Rows for which `fastest_gelu` measures: enough to fill a device."""

Gelu = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Tokens (N, T, D), a linear layer's weight (I, D) and bias (I,) -> its tanh GELU (N, T, I)."""


def gelu_after_product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A product, then a kernel of ours for the bias and the GELU."""
    return add_gelu_(F.linear(x, weight), bias)


def gelu_in_product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One kernel of cuBLASLt, which saves a pass over the result. Not for the CPU: GELU's erf there."""
    flat = torch._addmm_activation(bias, x.flatten(0, 1), weight.t(), use_gelu=True)
    return flat.view(*x.shape[:2], -1)


class CudaNetwork(EagerNetwork):
    """The network for CUDA where Triton works: `EagerNetwork` on fused kernels.

    The products and the attention are torch's. Create it only after `check_kernels` has passed.
    ``gelu`` is how the MLPs compute theirs.
    """

    def __init__(
        self,
        dit: DiT,
        *,
        timesteps: int,
        fractional: Sequence[float] = (),
        consume: bool = False,
        gelu: Gelu = gelu_after_product,
    ) -> None:
        super().__init__(dit, timesteps=timesteps, fractional=fractional, consume=consume)
        self._gelu = gelu

    def _transform(self, tokens: Tensor, vectors: Sequence[Tensor]) -> Tensor:
        # The vectors, in order: shift and scale of the first layer; then each layer's gate with the
        # shift and scale of the next layer, which for the last MLP is the final layer.
        shift, scale = vectors[:2]
        x = tokens.contiguous()
        normed = norm_modulate(x, shift, scale)
        for i, block in enumerate(cast("Iterable[DiTBlock]", self._dit.blocks)):
            first = VECTORS_PER_BLOCK * i + 2
            gate, shift, scale = vectors[first : first + 3]
            y = block.attn(normed)
            x, normed = add_norm_modulate(x, gate, y, shift=shift, scale=scale)
            gate, shift, scale = vectors[first + 3 : first + 6]
            y = block.mlp.fc2(self._gelu(normed, block.mlp.fc1.weight, block.mlp.fc1.bias))
            x, normed = add_norm_modulate(x, gate, y, shift=shift, scale=scale)
        return normed


@torch.inference_mode()
def check_kernels(dit: DiT) -> None:
    """Compile the kernels for the DiT's widths, dtype and device, and compare them with torch.

    Raises:
        RuntimeError: a kernel's values differ from torch's.
        Exception: Triton cannot compile or launch. Its errors have no common base class, and a
            missing C compiler, cache folder or driver raises others still.
    """
    D = dit.pos_embed.shape[-1]
    sample = _sampler(dit.pos_embed)
    x, y = sample(2, SAMPLE_ROWS, SAMPLE_TOKENS, D).unbind(0)
    gate, shift, scale = sample(SAMPLE_ROWS, 3, 1, D).unbind(1)
    expected = torch.addcmul(x.float(), gate.float(), y.float())
    total, out = add_norm_modulate(x, gate, y, shift=shift, scale=scale)
    compare(norm_modulate(x, shift, scale), modulate(x.float(), shift.float(), scale.float()))
    compare(total, expected)
    compare(out, modulate(expected, shift.float(), scale.float()))

    inner_size = _first_product(dit).out_features
    inner, bias = sample(SAMPLE_ROWS, SAMPLE_TOKENS, inner_size), sample(inner_size)
    expected = F.gelu(inner.float() + bias.float(), approximate="tanh")
    compare(add_gelu_(inner, bias), expected)


@torch.inference_mode()
def fastest_gelu(dit: DiT, *, clock: Callable[[], float] = time.perf_counter) -> Gelu:
    """The faster way on the DiT's device, in its dtype and at its widths; it agrees with torch.

    Args:
        dit: the model.
        clock: in seconds.
    """
    _, tokens, D = dit.pos_embed.shape
    layer, x = _first_product(dit), _sampler(dit.pos_embed)(GELU_ROWS, tokens, D)
    exact = F.linear(x.float(), layer.weight.float(), layer.bias.float())
    given = x, layer.weight, layer.bias
    ways = (gelu_in_product, gelu_after_product)
    try:
        for way in ways:
            compare(way(*given), F.gelu(exact, approximate="tanh"))
        return min(ways, key=lambda way: seconds_of(lambda: way(*given), x.device, clock))
    except RuntimeError:  # wrong, not supported, or too large
        return gelu_after_product


def _first_product(dit: DiT) -> nn.Linear:
    """That of the first block's MLP; those of the other blocks have its shape."""
    return next(iter(cast("Iterable[DiTBlock]", dit.blocks))).mlp.fc1


def _sampler(like: Tensor) -> Callable[..., Tensor]:
    """Makes normal numbers of any shape, the same every time, with the dtype of ``like``."""
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, generator=generator).to(like.device, like.dtype)
