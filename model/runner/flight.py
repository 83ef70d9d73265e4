"""Flight: one image on its way through the ticks, and the plan that a tick makes of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.sampling.noise import ImageNoise
from model.sampling.samplers import COLUMNS
from model.sampling.trajectory import Trajectory

PLAN_COLUMNS = ("slot", "null_row", "cfg_scale", *COLUMNS, "image", "timestep", "label")
"""A line of a plan: what is done with image i, then what is in row i of the forward pass."""


@dataclass(slots=True, eq=False)
class Flight:
    """One image in flight: its slot in the device's buffers and how far it has come."""

    trajectory: Trajectory
    slot: int
    noise: ImageNoise
    step: int = 0
    drawn: Tensor | None = None  # this step's noise, kept so that a repeated tick draws no more

    @property
    def done(self) -> bool:
        return self.step == self.trajectory.steps

    @property
    def rows(self) -> int:
        """Rows of the next tick's forward pass."""
        return self.trajectory.rows[self.step]

    def coming(self, steps: int, null_class: int) -> list[tuple[float, int]]:
        """(timestep, label) of the rows that it takes at its next ``steps`` steps."""
        here = slice(self.step, self.step + steps)
        pairs: list[tuple[float, int]] = []
        for rows, (t, *_) in zip(self.trajectory.rows[here], self.trajectory.table.lines[here]):
            pairs += [(t, self.trajectory.class_label), (t, null_class)][:rows]
        return pairs

    @property
    def draws(self) -> bool:
        """Whether the next step takes fresh noise."""
        return self.trajectory.table.draws(self.step)


def plan_tick(flights: Sequence[Flight], rows: int, *, null_class: int, spare_slot: int) -> Tensor:
    """Everything the device needs to know of a tick, as one (rows, len(PLAN_COLUMNS)) tensor.

    The rows are first every image's own class, then the null rows of the guided ones, then
    padding: the first row again. An image without a null row has its own row in its place, so that
    guidance changes nothing. The lines past the last image write to ``spare_slot``.
    """
    own: list[tuple[float, float, float]] = []
    null: list[tuple[float, float, float]] = []
    images: list[tuple[float, ...]] = []
    for i, flight in enumerate(flights):
        trajectory = flight.trajectory
        t, *coefficients = trajectory.table.lines[flight.step]
        own.append((i, t, trajectory.class_label))
        null_row = i
        if flight.rows == 2:
            null_row = len(flights) + len(null)
            null.append((i, t, null_class))
        images.append((flight.slot, null_row, trajectory.cfg_scale, *coefficients))
    lines = own + null
    assert len(lines) <= rows, "this is a bug: more rows than the tick has room for"
    lines += [own[0]] * (rows - len(lines))
    images += [(spare_slot, 0.0, 1.0, *[0.0] * len(COLUMNS))] * (rows - len(images))
    flat = [value for image, line in zip(images, lines) for value in (*image, *line)]
    return torch.tensor(flat).view(rows, len(PLAN_COLUMNS))
