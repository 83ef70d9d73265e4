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

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from model.backends.attention import BACKENDS, fastest_backend
from model.backends.choose import prepare_for_sampling
from model.backends.compiled import compiled
from model.backends.cpu import FORESEEN_STEPS
from model.device import DeviceLost, OutOfMemory, device_faults
from model.runner.decoding import Decoder, Decoding, Pixels
from model.runner.flight import Flight, plan_tick
from model.runner.tick import Network, Tick
from model.sampling.noise import ImageNoise
from model.sampling.parameters import WHOLE_RANGE, Sampling
from model.sampling.trajectory import Trajectory, plan_trajectory
from model.weights.checkpoint import Checkpoint

__all__ = ["DeviceLost", "Flight", "ModelRunner", "OutOfMemory", "TickTimes"]

DECODED_AT_ONCE = 8
"""Images of one decoder pass, whose activations are what takes memory at 512 pixels."""

SLOTS_PER_ROW = 4
"""Images that can be in flight for each row of a tick: those beside the tick's are set aside."""

TICKS_AHEAD = 2
"""Ticks that may wait on a CUDA stream before the host waits: enough to hide the launch."""


@dataclass(frozen=True, slots=True)
class TickTimes:
    """Warm-up's measure: seconds of a tick of one row and of a full one."""

    one_row: float
    full: float


class ModelRunner:
    """A checkpoint on its device, with room for ``max_rows`` rows a tick.

    Args:
        checkpoint: the model, already on the device; its transformer is changed for sampling.
        max_rows: rows of the largest forward pass.
        reproducible: make an image's bytes independent of its neighbours: every decode at one
            image and, where the network does not see to it, every tick at ``max_rows`` rows.
        compile: have torch.compile make the forward pass, on CUDA.
        network: what computes the forward pass in place of the checkpoint's DiT.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        max_rows: int,
        reproducible: bool = False,
        compile: bool = False,
        network: Network | None = None,
    ) -> None:
        dit = checkpoint.dit
        timesteps = checkpoint.schedule.num_train_timesteps
        self._packed = prepare_for_sampling(dit, timesteps, rows=max_rows)
        self.checkpoint = checkpoint
        self.max_rows = max_rows
        self.slots = SLOTS_PER_ROW * max_rows
        self.device = dit.pos_embed.device
        self._reproducible = reproducible
        self._pads_fully = reproducible and self._packed is None  # packed rows are independent
        self._records = self.device.type == "cuda" and network is None
        self._shape = (dit.in_channels, dit.input_size, dit.input_size)
        compiles = compile and self.device.type == "cuda"
        forward = network or (compiled(dit) if compiles else dit)
        self._tick = Tick(forward, self._shape, slots=self.slots, rows=max_rows).to(self.device)
        at_once = 1 if reproducible else DECODED_AT_ONCE
        self._decoder = Decoder(checkpoint.vae, self.device, at_once)
        self._free = list(range(self.slots))[::-1]
        self._ticks: deque[torch.cuda.Event] = deque()

    def join(self, trajectory: Trajectory) -> Flight:
        """Give an image a slot and its first noise. There must be a free slot."""
        assert self._free, "this is a bug: more images in flight than slots"
        noise = ImageNoise(trajectory.seed, self._shape)
        slot = self._free.pop()
        self._tick.latents[slot].copy_(self._staged(noise.draw()), non_blocking=True)
        self._tick.x0[slot].zero_()
        return Flight(trajectory, slot, noise)

    def leave(self, flight: Flight) -> None:
        """Take an image's slot back, wherever the image is on its way."""
        self._free.append(flight.slot)

    @device_faults()
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
        rows = self._bucket(sum(flight.rows for flight in flights))
        plan = plan_tick(
            flights,
            rows,
            null_class=self.checkpoint.dit.num_classes,
            spare_slot=self._tick.spare_slot,
        )
        self._foresee(flights)
        self._tick.run(self._staged(plan), self._noise(flights))
        for flight in flights:
            flight.step += 1
            flight.drawn = None
        self._mark_tick()
        return rows

    @device_faults()
    @torch.inference_mode()
    def start_decode(self, flights: Sequence[Flight]) -> Decoding:
        """Send finished latents to the decoder; their slots are free to be left at once."""
        return self._decoder.start(self.latents(flights))

    @device_faults()
    @torch.inference_mode()
    def decode(self, flights: Sequence[Flight]) -> Pixels:
        """Finished latents -> uint8 pixels (H, W, 3) each; None where a latent is not finite."""
        return self.start_decode(flights).pixels()

    @device_faults()
    @torch.inference_mode()
    def preview(self, flights: Sequence[Flight]) -> Pixels:
        """As `decode`, of the model's present estimate of each image."""
        return self._decoder.start(self._of(self._tick.x0, flights)).pixels()

    @torch.inference_mode()
    def latents(self, flights: Sequence[Flight]) -> Tensor:
        """The images' latents as they are now, as a copy (n, C, S, S)."""
        return self._of(self._tick.latents, flights)

    def warm_up(self, report: Callable[[str], None]) -> TickTimes:
        """Run, and on CUDA record, every kernel once; time a small and a full tick."""
        report("warming up")
        self._time_tick(1)  # the first tick of all builds what every later one uses
        counts = self._row_counts()
        if self._records:
            self._record(counts, report)
        seconds = [self._time_tick(rows) for rows in counts]
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

    def _noise(self, flights: Sequence[Flight]) -> Tensor | None:
        """Fresh noise (n, C, S, S) for the images whose step takes some; None where none does."""
        if not any(flight.draws for flight in flights):
            return None
        noise = torch.zeros(len(flights), *self._shape)
        for i, flight in enumerate(flights):
            if flight.draws:
                flight.drawn = flight.noise.draw() if flight.drawn is None else flight.drawn
                noise[i] = flight.drawn
        return self._staged(noise)

    def _foresee(self, flights: Sequence[Flight]) -> None:
        """Compute the conditioning of some steps at once, for the images that have come so far."""
        if self._packed is None:
            return
        due = [flight for flight in flights if flight.step % FORESEEN_STEPS == 0]
        null_class = self.checkpoint.dit.num_classes
        pairs = [pair for flight in due for pair in flight.coming(FORESEEN_STEPS, null_class)]
        self._packed.conditioning.foresee(pairs)

    def _of(self, source: Tensor, flights: Sequence[Flight]) -> Tensor:
        """These images' part of a buffer, as a copy (n, C, S, S)."""
        slots = self._staged(torch.tensor([flight.slot for flight in flights]))
        return source.index_select(0, slots.to(self.device, non_blocking=True))

    def _bucket(self, rows: int) -> int:
        """The row count at which a tick of ``rows`` rows is run."""
        if self._pads_fully:
            return self.max_rows
        if self.device.type == "cpu":
            return rows
        return min(self.max_rows, 1 << (rows - 1).bit_length())

    def _row_counts(self) -> list[int]:
        """Row counts to warm up, rising from 1 to the most: on CUDA every one that is ever run."""
        if self._pads_fully:
            return [self.max_rows]
        powers = [1 << i for i in range((self.max_rows - 1).bit_length())]
        return [1, self.max_rows] if self.device.type == "cpu" else [*powers, self.max_rows]

    @device_faults()
    @torch.inference_mode()
    def _record(self, counts: Sequence[int], report: Callable[[str], None]) -> None:
        """Record the tick of each row count, under the attention that is fastest here.

        In reproducible mode torch chooses, who always chooses the same: two starts may well time
        two kernels differently.
        """
        backends = list(BACKENDS) if self._reproducible else [self._fastest_backend()]
        with sdpa_kernel(backends):
            for rows in sorted(counts, reverse=True):  # the largest takes the memory for all
                report(f"recording the tick of {rows} rows")
                self._tick.record(rows)

    def _fastest_backend(self) -> SDPBackend:
        dit = self.checkpoint.dit
        heads, (_, tokens, width) = dit.num_heads, dit.pos_embed.shape
        shape = (self.max_rows, heads, tokens, width // heads)
        return fastest_backend(shape, dtype=dit.pos_embed.dtype, device=self.device)

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
            sampling = Sampling(
                class_label=0,
                cfg_scale=1.0,
                num_sampling_steps=2 + seed % 64,  # timesteps of their own, as in a mixed tick
                sampler="ddpm",
                seed=seed,
                guidance_interval=WHOLE_RANGE,
            )
            flights.append(self.join(plan_trajectory(self.checkpoint.schedule, sampling)))
        try:
            yield flights
        finally:
            for flight in flights:
                self.leave(flight)
