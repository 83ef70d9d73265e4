"""Step: what a tick computes around the network: its inputs, guidance and the sampler's step."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from model.sampling.samplers import COLUMNS, LOOKBACK, NO_PAST, advance

PLAN_COLUMNS = (
    *("slot", "null_row", "cfg_scale", "cfg_channels"),
    *COLUMNS,
    *("image", "timestep", "label"),
)
"""Row i of a plan: first what to do with image i, then the inputs of forward row i. Where images have
a history, `SamplerTable.pasts` of image i follows."""

IMAGE, TIMESTEP, LABEL = (PLAN_COLUMNS.index(each) for each in ("image", "timestep", "label"))
FIRST_COEFFICIENT, PAST = PLAN_COLUMNS.index(COLUMNS[0]), len(PLAN_COLUMNS)

Inputs = tuple[Tensor, Tensor, Tensor]
"""Latents (R, C, S, S), timesteps (R,) and labels (R,) of the forward rows."""


@dataclass(frozen=True, slots=True, eq=False)
class Buffers:
    """The images in flight, in memory that never moves.

    ``latents`` and ``x0`` are (slots + 1, C, S, S), by slot; padding writes to the last one.
    ``noise`` is (rows, C, S, S), by row of the plan. ``history``, for samplers that look back on
    them, is (slots + 1, LOOKBACK, C, S, S): the first estimates of each image, as far as its steps
    have come and its table keeps them. What else there is may be another image's.
    """

    latents: Tensor
    x0: Tensor
    noise: Tensor
    history: Tensor | None = None

    @classmethod
    def zeros(
        cls,
        shape: tuple[int, int, int],
        *,
        slots: int,
        rows: int,
        device: torch.device,
        history: bool = False,
    ) -> Buffers:
        """Room for ``slots`` images of (C, S, S), of which a tick takes up to ``rows``."""
        latents = torch.zeros(slots + 1, *shape, device=device)
        noise = torch.zeros(rows, *shape, device=device)
        kept = torch.zeros(slots + 1, LOOKBACK, *shape, device=device) if history else None
        return cls(latents, torch.zeros_like(latents), noise, kept)

    @property
    def plan_width(self) -> int:
        """Columns of a plan."""
        return len(PLAN_COLUMNS) + (0 if self.history is None else len(NO_PAST))


class TickStep(Protocol):
    """What a tick computes around the network, by a plan (R, buffers.plan_width).

    On CUDA, a call must be capturable as a graph: it launches kernels and never waits for them.
    """

    def inputs(self, buffers: Buffers, plan: Tensor) -> Inputs:
        """Gather what the network is called with."""
        ...

    def advance(self, buffers: Buffers, plan: Tensor, answers: Tensor) -> None:
        """Guide the network's answers (R, out_channels, S, S) and take every image a step further.

        The answers may be overwritten.
        ``latents``, ``x0`` and ``history`` are changed in place.
        """
        ...


class PlainStep:
    """The step in torch's own operations, for any device."""

    def inputs(self, buffers: Buffers, plan: Tensor) -> Inputs:
        image, t, y = plan[:, IMAGE].long(), plan[:, TIMESTEP], plan[:, LABEL].long()
        slots = plan[:, 0].long().index_select(0, image)
        return buffers.latents.index_select(0, slots), t, y

    def advance(self, buffers: Buffers, plan: Tensor, answers: Tensor) -> None:
        slots = plan[:, 0].long()
        x, x0_before = (each.index_select(0, slots) for each in (buffers.latents, buffers.x0))
        output = guided(answers, plan, channels=x.shape[1])
        coefficients = plan[:, FIRST_COEFFICIENT:IMAGE]
        x, x0 = advance(x, x0_before, output, buffers.noise[: len(plan)], coefficients)
        if buffers.history is not None:
            x = x + recalled(buffers.history, slots, plan)
            remember(buffers.history, slots, plan, x0)
        buffers.latents.index_copy_(0, slots, x)
        buffers.x0.index_copy_(0, slots, x0)


PLAIN_STEP = PlainStep()


def guided(answers: Tensor, plan: Tensor, *, channels: int) -> Tensor:
    """Classifier-free guidance by plan row, on its channels of the noise, in place.

    The other channels stay as they are.
    """
    null_row = plan[:, 1].long()
    cfg_scale, cfg_channels = plan[:, 2:4, None, None, None].unbind(1)  # (R, 1, 1, 1) each
    conditional = answers[:, :channels]
    unconditional = conditional.index_select(0, null_row)
    noise = (conditional - unconditional).mul_(cfg_scale).add_(unconditional)
    channel = torch.arange(channels, device=plan.device).view(-1, 1, 1)
    torch.where(channel < cfg_channels, noise, conditional, out=conditional)
    return answers


def recalled(history: Tensor, slots: Tensor, plan: Tensor) -> Tensor:
    """The weighted sums (R, C, S, S) of earlier estimates; those of weight 0 may be anything."""
    weights = plan[:, PAST + 1 :, None, None, None]  # (R, LOOKBACK, 1, 1, 1)
    terms = torch.where(weights != 0, weights * history.index_select(0, slots), 0.0)
    return functools.reduce(torch.add, terms.unbind(1))  # one by one: always in the same order


def remember(history: Tensor, slots: Tensor, plan: Tensor, x0: Tensor) -> None:
    """Keep the estimates (R, C, S, S) where the plan says; the others go to the spare slot."""
    place = plan[:, PAST].long()
    spare = (len(history) - 1) * LOOKBACK
    places = torch.where(place >= 0, slots * LOOKBACK + place, spare)
    history.flatten(0, 1).index_copy_(0, places, x0)
