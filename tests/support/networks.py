"""Small DiTs with random weights, inputs for them, and networks for a runner."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from model.backends.choose import network_for
from model.backends.network import Network, Pair
from model.networks.dit import DiT
from model.weights.checkpoint import Checkpoint


def randomise(model: DiT, seed: int = 0) -> DiT:
    """Give every trainable parameter random values, so that every part of the model has an effect."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                fan_in = parameter[0].numel() if parameter.ndim > 1 else 10
                parameter.normal_(std=fan_in**-0.5, generator=generator)
    return model


def tiny(*, seed: int = 0, class_dropout_prob: float = 0.1, learn_sigma: bool = True) -> DiT:
    model = DiT(
        input_size=8,
        hidden_size=64,
        depth=3,
        num_heads=4,
        num_classes=10,
        class_dropout_prob=class_dropout_prob,
        learn_sigma=learn_sigma,
    )
    return randomise(model, seed)


def inputs_for(model: DiT, rows: int = 3, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, timesteps (one of them fractional) and labels, including the null class."""
    generator = torch.Generator().manual_seed(seed)
    size = model.input_size
    x = torch.randn(rows, model.in_channels, size, size, generator=generator)
    t = torch.tensor([999.0, 0.0, 417.25, 1.0, 650.0, 3.0])[:rows]
    last = model.num_classes if model.null_class is not None else model.num_classes - 1
    y = torch.tensor([last, 0, last // 2, 1, 0, last])[:rows]
    return x, t, y


def pairs_for(model: DiT, images: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Rows for forward_with_cfg; the second half's latents are NaN, as it must not read them."""
    x, t, y = inputs_for(model, rows=images)
    y = torch.cat([torch.arange(images), torch.full((images,), model.num_classes)])
    return torch.cat([x, torch.full_like(x, math.nan)]), torch.cat([t, t]), y


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def network_of(checkpoint: Checkpoint, *, max_rows: int = 32, independent: bool = False) -> Network:
    """The network that `build_runner` gives a runner of this checkpoint; ``independent`` if reproducible."""
    timesteps = checkpoint.schedule.num_train_timesteps
    fractional = checkpoint.fractional_timesteps
    return network_for(
        checkpoint.dit,
        timesteps=timesteps,
        fractional=fractional,
        rows=max_rows,
        independent=independent,
    )


class FunctionNetwork:
    """A function as a network, with rows that may depend on each other."""

    rows_are_independent = False
    foreseen_steps = 0

    def __init__(self, forward: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        self._forward = forward

    def foresee(self, pairs: Iterable[Pair]) -> None:
        """Nothing is kept between calls."""

    def __call__(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self._forward(x, t, y)


class WrappedNetwork:
    """A network around another one, which has its properties; what a pass does is the subclass's own."""

    def __init__(self, network: Network) -> None:
        self._network = network

    @property
    def rows_are_independent(self) -> bool:
        return self._network.rows_are_independent

    @property
    def foreseen_steps(self) -> int:
        return self._network.foreseen_steps

    def foresee(self, pairs: Iterable[Pair]) -> None:
        self._network.foresee(pairs)
