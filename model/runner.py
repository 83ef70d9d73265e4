"""ModelRunner: the model on its device: one tick for many images, decoding, warm-up.

The runner owns the device's buffers. Every image in flight has a slot in them, and a tick reads and
writes the slots of the images it is given; any set of images may share a tick.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.checkpoint import Checkpoint
from model.diffusion import COLUMNS, advance
from model.packed import prepare_for_sampling
from model.trajectory import ImageNoise, Trajectory, plan_trajectory

DECODED_AT_ONCE = 8
"""Images of one decoder pass, whose activations are what takes memory at 512 pixels."""

SLOTS_PER_ROW = 4
"""Images that can be in flight for each row of a tick: those beside the tick's are set aside."""

TICKS_AHEAD = 2
"""Ticks that may wait on a CUDA stream before the host waits: enough to hide the launch."""


Network = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The forward pass: (x, t, y) -> output, as `DiT.forward`."""


class DeviceLost(RuntimeError):
    """The device answers no more; nothing on it can be trusted or retried."""


class OutOfMemory(RuntimeError):
    """The device's memory did not suffice; the same with fewer images may."""


@contextmanager
def _device_faults() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(str(error)) from error
    except torch.AcceleratorError as error:
        raise DeviceLost(str(error)) from error


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


@dataclass(frozen=True, slots=True)
class TickTimes:
    """Warm-up's measure: seconds of a tick of one row and of a full one."""

    one_row: float
    full: float


class ModelRunner:
    """A checkpoint on its device, with room for ``max_rows`` rows a tick.

    Args:
        checkpoint: the model, already on the device; its transformer is changed for sampling, in place.
        max_rows: rows of the largest forward pass.
        reproducible: run every tick at exactly ``max_rows`` rows and every decode at one image,
            so that an image's bytes do not depend on its neighbours.
        network: what computes the forward pass in place of the checkpoint's DiT.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        max_rows: int,
        reproducible: bool = False,
        network: Network | None = None,
    ) -> None:
        dit = checkpoint.dit
        prepare_for_sampling(dit, checkpoint.schedule.num_train_timesteps)
        self.checkpoint = checkpoint
        self.max_rows = max_rows
        self.slots = SLOTS_PER_ROW * max_rows
        self.device = dit.pos_embed.device
        self._network = network or dit
        self._reproducible = reproducible
        self._shape = (dit.in_channels, dit.input_size, dit.input_size)
        self._latents = torch.zeros(self.slots, *self._shape, device=self.device)
        self._x0 = torch.zeros_like(self._latents)
        self._no_noise = torch.zeros_like(self._latents)
        self._free = list(range(self.slots))[::-1]
        self._ticks: deque[torch.cuda.Event] = deque()

    def join(self, trajectory: Trajectory) -> Flight:
        """Give an image a slot and its first noise. There must be a free slot."""
        assert self._free, "this is a bug: more images in flight than slots"
        noise = ImageNoise(trajectory.seed, self._shape)
        slot = self._free.pop()
        self._latents[slot].copy_(self._staged(noise.draw()), non_blocking=True)
        self._x0[slot].zero_()
        return Flight(trajectory, slot, noise)

    def leave(self, flight: Flight) -> None:
        """Take an image's slot back, wherever the image is on its way."""
        self._free.append(flight.slot)

    @_device_faults()
    @torch.inference_mode()
    def tick(self, flights: Sequence[Flight]) -> int:
        """Advance every image by one step; returns the rows of the forward pass, padding included.

        The step counts move only once everything has been launched: after an exception the same
        images, or a part of them, can be given again.

        Raises:
            OutOfMemory: the device's memory did not suffice for these rows.
            DeviceLost: the device is gone.
        """
        self._wait_for_room()
        latents, x0 = self._latents, self._x0
        images, rows = self._plan(flights)
        slots = images[:, 0].long()
        x = latents[slots]
        output = self._guided_output(x, images, rows)
        x, x0_now = advance(x, x0[slots], output, self._noise(flights), images[:, 3:])
        latents[slots], x0[slots] = x, x0_now
        for flight in flights:
            flight.step += 1
            flight.drawn = None
        self._mark_tick()
        return len(rows)

    @_device_faults()
    @torch.inference_mode()
    def decode(self, flights: Sequence[Flight]) -> list[np.ndarray | None]:
        """Finished latents -> uint8 pixels (H, W, 3) each; None where a latent is not finite."""
        return self._decode(self._latents, flights)

    @_device_faults()
    @torch.inference_mode()
    def preview(self, flights: Sequence[Flight]) -> list[np.ndarray | None]:
        """As `decode`, of the model's present estimate of each image."""
        return self._decode(self._x0, flights)

    def warm_up(self, report: Callable[[str], None]) -> TickTimes:
        """Run every kernel once before the first request, and time a small and a full tick."""
        report("warming up")
        self._time_tick(1)  # the first tick of all builds what every later one uses
        seconds = [self._time_tick(rows) for rows in self._row_counts()]
        one_row, full = seconds[0], seconds[-1]
        report(f"a tick of 1 row takes {one_row * 1e3:.1f} ms, of {self.max_rows} {full * 1e3:.1f}")
        return TickTimes(min(one_row, full), full)

    def synchronize(self) -> None:
        """Wait until the device has done all that was launched."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._ticks.clear()

    def memory_bytes(self) -> dict[str, int]:
        """Device memory by kind; empty on the CPU."""
        if self.device.type != "cuda":
            return {}
        return {
            "allocated": torch.cuda.memory_allocated(self.device),
            "reserved": torch.cuda.memory_reserved(self.device),
        }

    def release_cached_memory(self) -> None:
        """Give unused memory back after an out-of-memory."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _plan(self, flights: Sequence[Flight]) -> tuple[Tensor, Tensor]:
        """What the tick needs to know of its images and rows, in one copy to the device.

        Images (n, 3 + COLUMNS): slot, row of the null class (its own row where unguided),
        cfg_scale, coefficients. Rows (R, 3): image, timestep, class label; first every image's
        own class, then the null rows, then padding.
        """
        null_class = self.checkpoint.dit.num_classes
        images: list[tuple[float, ...]] = []
        own_rows: list[tuple[float, ...]] = []
        null_rows: list[tuple[float, ...]] = []
        for i, flight in enumerate(flights):
            trajectory, step = flight.trajectory, flight.step
            t = float(trajectory.table.timesteps[step])
            own_rows.append((i, t, trajectory.class_label))
            null_row = i
            if flight.rows == 2:
                null_row = len(flights) + len(null_rows)
                null_rows.append((i, t, null_class))
            coefficients = trajectory.table.coefficients[step].tolist()
            images.append((flight.slot, null_row, trajectory.cfg_scale, *coefficients))
        rows = own_rows + null_rows
        rows += [rows[0]] * (self._bucket(len(rows)) - len(rows))
        flat = [value for line in (*images, *rows) for value in line]
        packed = self._staged(torch.tensor(flat)).to(self.device, non_blocking=True)
        width = 3 + len(COLUMNS)
        of_images, of_rows = torch.split(packed, [width * len(images), 3 * len(rows)])
        return of_images.view(-1, width), of_rows.view(-1, 3)

    def _guided_output(self, x: Tensor, images: Tensor, rows: Tensor) -> Tensor:
        """The model's answer for every image, its noise guided: (n, out_channels, S, S)."""
        row_image, t, y = rows[:, 0].long(), rows[:, 1], rows[:, 2].long()
        answers = self._network(x[row_image], t, y)  # (R, out_channels, S, S)
        channels = self._shape[0]
        output = answers[: len(images)]
        conditional = output[:, :channels]
        unconditional = answers[images[:, 1].long(), :channels]
        cfg_scale = images[:, 2].view(-1, 1, 1, 1)
        guided = unconditional + cfg_scale * (conditional - unconditional)
        return torch.cat([guided, output[:, channels:]], dim=1)

    def _noise(self, flights: Sequence[Flight]) -> Tensor:
        """Fresh noise (n, C, S, S) for the images whose step takes some, zero for the others."""
        drawing = [flight.trajectory.table.draws(flight.step) for flight in flights]
        if not any(drawing):
            return self._no_noise[: len(flights)]
        noise = torch.zeros(len(flights), *self._shape)
        for i, flight in enumerate(flights):
            if drawing[i]:
                flight.drawn = flight.noise.draw() if flight.drawn is None else flight.drawn
                noise[i] = flight.drawn
        return self._staged(noise).to(self.device, non_blocking=True)

    def _decode(self, source: Tensor, flights: Sequence[Flight]) -> list[np.ndarray | None]:
        pixels: list[np.ndarray | None] = []
        size = 1 if self._reproducible else DECODED_AT_ONCE
        for start in range(0, len(flights), size):
            slots = [flight.slot for flight in flights[start : start + size]]
            images, finite = self.checkpoint.vae.decode(source[slots])
            kept = finite.tolist()
            pixels += [image if ok else None for image, ok in zip(images.cpu().numpy(), kept)]
        return pixels

    def _bucket(self, rows: int) -> int:
        """The row count at which a tick of ``rows`` rows is run."""
        if self._reproducible:
            return self.max_rows
        if self.device.type == "cpu":
            return rows
        return min(self.max_rows, 1 << (rows - 1).bit_length())

    def _row_counts(self) -> list[int]:
        """Row counts to warm up, rising from 1 to the most: on CUDA every one that is ever run."""
        powers = [1 << i for i in range((self.max_rows - 1).bit_length())]
        return [1, self.max_rows] if self.device.type == "cpu" else [*powers, self.max_rows]

    def _staged(self, tensor: Tensor) -> Tensor:
        """The tensor where a copy to the device need not block: in pinned memory, for CUDA."""
        return tensor.pin_memory() if self.device.type == "cuda" else tensor

    def _wait_for_room(self) -> None:
        if len(self._ticks) >= TICKS_AHEAD:
            self._ticks.popleft().synchronize()

    def _mark_tick(self) -> None:
        if self.device.type == "cuda":
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
            self._ticks.append(event)

    def _time_tick(self, rows: int) -> float:
        """Seconds of a tick; of a second one where the first may have spent them on building."""
        with self._trial_images(rows) as flights:
            seconds = self._seconds_of_tick(flights)
            if seconds < 1.0:
                seconds = self._seconds_of_tick(flights)
            self.decode(flights[:DECODED_AT_ONCE])
        return seconds

    def _seconds_of_tick(self, flights: list[Flight]) -> float:
        began = time.perf_counter()
        self.tick(flights)
        self.synchronize()
        return time.perf_counter() - began

    @contextmanager
    def _trial_images(self, count: int) -> Iterator[list[Flight]]:
        flights = []
        for seed in range(count):
            trajectory = plan_trajectory(
                self.checkpoint.schedule,
                class_label=0,
                cfg_scale=1.0,
                num_sampling_steps=2,
                sampler="ddpm",
                seed=seed,
            )
            flights.append(self.join(trajectory))
        try:
            yield flights
        finally:
            for flight in flights:
                self.leave(flight)
