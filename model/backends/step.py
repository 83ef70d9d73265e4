"""Step: what a tick computes around the network: its inputs, guidance and the sampler's step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from model.sampling.samplers import COLUMNS, advance

PLAN_COLUMNS = ("slot", "null_row", "cfg_scale", *COLUMNS, "image", "timestep", "label")
"""Row i of a plan: first what to do with image i, then the inputs of forward row i."""

Inputs = tuple[Tensor, Tensor, Tensor]
"""Latents (R, C, S, S), timesteps (R,) and labels (R,) of the forward rows."""


@dataclass(frozen=True, slots=True, eq=False)
class Buffers:
    """The images in flight, in memory that never moves.

    ``latents`` and ``x0`` are (slots + 1, C, S, S), by slot; padding writes to the last one.
    ``noise`` is (rows, C, S, S), by row of the plan.
    """

    latents: Tensor
    x0: Tensor
    noise: Tensor

    @classmethod
    def zeros(
        cls, shape: tuple[int, int, int], *, slots: int, rows: int, device: torch.device
    ) -> Buffers:
        """Room for ``slots`` images of (C, S, S), of which a tick takes up to ``rows``."""
        latents = torch.zeros(slots + 1, *shape, device=device)
        noise = torch.zeros(rows, *shape, device=device)
        return cls(latents, torch.zeros_like(latents), noise)


class TickStep(Protocol):
    """What a tick computes around the network, by a plan (R, len(PLAN_COLUMNS)).

    On CUDA, a call must be capturable as a graph: it launches kernels and never waits for them.
    """

    def inputs(self, buffers: Buffers, plan: Tensor) -> Inputs:
        """Gather what the network is called with."""
        ...

    def advance(self, buffers: Buffers, plan: Tensor, answers: Tensor) -> None:
        """Guide the network's answers (R, out_channels, S, S) and take every image a step further.

        ``latents`` and ``x0`` are changed in place.
        """
        ...


class PlainStep:
    """The step in torch's own operations, for any device."""

    def inputs(self, buffers: Buffers, plan: Tensor) -> Inputs:
        image, t, y = plan[:, -3].long(), plan[:, -2], plan[:, -1].long()
        slots = plan[:, 0].long().index_select(0, image)
        return buffers.latents.index_select(0, slots), t, y

    def advance(self, buffers: Buffers, plan: Tensor, answers: Tensor) -> None:
        slots = plan[:, 0].long()
        x, x0_before = (each.index_select(0, slots) for each in (buffers.latents, buffers.x0))
        output = guided(answers, plan, channels=x.shape[1])
        coefficients = plan[:, 3 : 3 + len(COLUMNS)]
        x, x0 = advance(x, x0_before, output, buffers.noise[: len(plan)], coefficients)
        buffers.latents.index_copy_(0, slots, x)
        buffers.x0.index_copy_(0, slots, x0)


PLAIN_STEP = PlainStep()


def guided(answers: Tensor, plan: Tensor, *, channels: int) -> Tensor:
    """Classifier-free guidance by plan row, on the noise alone; other channels stay as they are."""
    null_row, cfg_scale = plan[:, 1].long(), plan[:, 2].view(-1, 1, 1, 1)
    conditional = answers[:, :channels]
    unconditional = conditional.index_select(0, null_row)
    noise = unconditional + cfg_scale * (conditional - unconditional)
    return torch.cat([noise, answers[:, channels:]], dim=1)
