"""Flight: one image in progress, and what a tick needs to know about its flights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.backends.network import Pair
from model.runner.row_counts import RowCounts
from model.sampling.noise import ImageNoise
from model.sampling.samplers import COLUMNS, NO_PAST
from model.sampling.trajectory import Trajectory


@dataclass(frozen=True, slots=True, eq=False)
class Parked:
    """What an image has without a slot: its latent and, once it has begun, its estimate, (C, S, S)
    each, and its history (LOOKBACK, C, S, S), if it looks back on one."""

    latent: Tensor
    x0: Tensor | None = None
    history: Tensor | None = None


@dataclass(slots=True, eq=False)
class Flight:
    """One image in flight: its slot in the device's buffers and the steps it has done.

    While it is ``parked`` it has no slot.
    """

    trajectory: Trajectory
    slot: int
    noise: ImageNoise
    step: int = 0
    parked: Parked | None = None
    drawn: Tensor | None = None  # this step's noise, kept so that a repeated tick draws no more
    launched: bool = False  # the device has this step already, from a tick that failed elsewhere

    def advance(self) -> None:
        """Its step has been launched, and so have all others of the tick."""
        self.step += 1
        self.drawn = None
        self.launched = False

    @property
    def done(self) -> bool:
        return self.step == self.trajectory.steps

    @property
    def rows(self) -> int:
        """Rows of its next step; 0 when it is done."""
        return self.trajectory.rows_at(self.step)

    @property
    def draws(self) -> bool:
        """Whether its next step adds fresh noise."""
        return self.trajectory.table.draws(self.step)

    def next_pairs(self, steps: int, null_class: int) -> list[Pair]:
        """(timestep, label) of the forward rows of its next ``steps`` steps."""
        trajectory = self.trajectory
        pairs: list[Pair] = []
        for step in range(self.step, min(self.step + steps, trajectory.steps)):
            t = trajectory.table.steps[step][0]
            pairs += [(t, trajectory.class_label), (t, null_class)][: trajectory.rows_at(step)]
        return pairs


def passes_of(flights: list[Flight], row_counts: RowCounts) -> list[list[Flight]]:
    """The images of each forward pass of a tick."""
    if row_counts.padding == "chunks":
        return chunks_of(flights, row_counts.chunk)
    return [flights] if flights else []


def chunks_of(flights: Sequence[Flight], rows: int) -> list[list[Flight]]:
    """Flights in groups whose next steps take at most ``rows`` rows each, in as few as possible.

    Guided images go first: with an even ``rows`` only the last group can have rows to spare.
    """
    chunks: list[list[Flight]] = []
    free = 0
    for flight in sorted(flights, key=lambda flight: flight.rows, reverse=True):
        if flight.rows > free:
            chunks.append([])
            free = rows
        chunks[-1].append(flight)
        free -= flight.rows
    return chunks


def foreseen_pairs(flights: Sequence[Flight], steps: int, null_class: int) -> list[Pair]:
    """What to compute ahead: the next ``steps`` steps of every image that has just done as many.

    With 0 steps, nothing.
    """
    due = [flight for flight in flights if steps and flight.step % steps == 0]
    return [pair for flight in due for pair in flight.next_pairs(steps, null_class)]


def plan_tick(
    flights: Sequence[Flight], rows: int, *, null_class: int, spare_slot: int, history: bool = False
) -> Tensor:
    """All that the device needs to know about one pass: a (rows, buffers.plan_width) tensor.

    The forward rows are every image's own class, then the null class for each guided image, then
    padding: the first row again. The null row of an unguided image is its own row, so that guidance
    changes nothing. Plan rows past the last image write to ``spare_slot``. ``history`` says whether
    the buffers have one.
    """
    own: list[tuple[float, ...]] = []
    null: list[tuple[float, ...]] = []
    images: list[tuple[float, ...]] = []
    for i, flight in enumerate(flights):
        trajectory = flight.trajectory
        t, *coefficients = trajectory.table.steps[flight.step]
        own.append((i, t, trajectory.class_label))
        null_row = i
        if flight.rows == 2:
            null_row = len(flights) + len(null)
            null.append((i, t, null_class))
        guidance = trajectory.cfg_scale, trajectory.cfg_channels
        images.append((flight.slot, null_row, *guidance, *coefficients))
    inputs = own + null
    assert len(inputs) <= rows, "this is a bug: more rows than the tick has room for"
    inputs += [own[0]] * (rows - len(inputs))
    padding = rows - len(images)
    images += [(spare_slot, 0.0, 1.0, 0.0, *[0.0] * len(COLUMNS))] * padding
    if history:
        pasts = [flight.trajectory.table.pasts[flight.step] for flight in flights]
        inputs = [row + past for row, past in zip(inputs, pasts + [NO_PAST] * padding)]
    flat = [value for image, row in zip(images, inputs) for value in (*image, *row)]
    return torch.tensor(flat).view(rows, -1)


def fresh_noise(flights: Sequence[Flight], shape: tuple[int, int, int]) -> Tensor | None:
    """This step's noise (n, *shape), zero for images that add none; None if no image does."""
    if not any(flight.draws for flight in flights):
        return None
    noise = torch.zeros(len(flights), *shape)
    for i, flight in enumerate(flights):
        if flight.draws:
            flight.drawn = flight.noise.draw() if flight.drawn is None else flight.drawn
            noise[i] = flight.drawn
    return noise
