"""ModelRunner: the model on its device: ticks for many images, decoding, warm-up.

The runner owns the device's buffers. Every image in flight has a slot in them, and a tick reads and
writes the slots of the images it is given. Any images may share a tick.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from model.backends.attention import BACKENDS, fastest_backend
from model.backends.network import Network
from model.device import DeviceLost, OutOfMemory, device_faults
from model.networks.dit import DiT
from model.runner.decoding import Decoder, Decoding, Pixels
from model.runner.flight import Flight, fresh_noise, plan_tick
from model.runner.row_counts import Padding, RowCounts
from model.runner.tick import Tick
from model.runner.warm_up import TickTimes, trial_trajectories
from model.sampling.noise import ImageNoise
from model.sampling.trajectory import Trajectory
from model.weights.checkpoint import Checkpoint

__all__ = ["DeviceLost", "Flight", "ModelRunner", "OutOfMemory", "TickTimes"]

DECODED_AT_ONCE = 8
"""Images per decoder pass, whose activations dominate memory at 512 pixels."""

SLOTS_PER_ROW = 4
"""Images that can be in flight per row of a tick; those that a tick leaves out are paused."""

TICKS_AHEAD = 2
"""Ticks that may be queued on a CUDA stream before the host waits: enough to hide the launch."""


class ModelRunner:
    """A network on its device, with room for ``max_rows`` rows per tick.

    Args:
        checkpoint: the model that the network computes. The runner changes nothing in it, and after
            this constructor reads nothing from its DiT.
        network: computes the forward pass.
        max_rows: rows of the largest forward pass.
        reproducible: make an image's bytes independent of the images computed with it: decode one
            image at a time and, unless the network's rows are independent, pad every tick to
            ``max_rows`` rows.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        network: Network,
        *,
        max_rows: int,
        reproducible: bool = False,
    ) -> None:
        dit = checkpoint.dit
        self.checkpoint = checkpoint
        self.max_rows = max_rows
        self.slots = SLOTS_PER_ROW * max_rows
        self.device = dit.pos_embed.device
        self._network = network
        self._reproducible = reproducible
        self._null_class = dit.num_classes
        self._shape = (dit.in_channels, dit.input_size, dit.input_size)
        self._attention_shape = _attention_shape(dit, max_rows)
        self._dtype = dit.pos_embed.dtype
        full = reproducible and not network.rows_are_independent
        self._row_counts = RowCounts(max_rows, _padding(self.device, full=full))
        self._tick = Tick(network, self._shape, slots=self.slots, rows=max_rows, device=self.device)
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
        """Free an image's slot, at any step."""
        self._free.append(flight.slot)

    @device_faults()
    @torch.inference_mode()
    def tick(self, flights: Sequence[Flight]) -> int:
        """Advance every image by one step; returns the rows of the forward pass, with padding.

        Step counts advance only after everything has been launched, so after an exception the same
        images, or some of them, can be given again.

        Raises:
            OutOfMemory: not enough device memory for these rows.
            DeviceLost: the device is gone.
        """
        self._wait_for_room()
        rows = self._row_counts.padded(sum(flight.rows for flight in flights))
        plan = plan_tick(
            flights, rows, null_class=self._null_class, spare_slot=self._tick.spare_slot
        )
        noise = fresh_noise(flights, self._shape)
        self._foresee(flights)
        self._tick.run(self._staged(plan), None if noise is None else self._staged(noise))
        for flight in flights:
            flight.step += 1
            flight.drawn = None
        self._mark_tick()
        return rows

    @device_faults()
    @torch.inference_mode()
    def start_decode(self, flights: Sequence[Flight]) -> Decoding:
        """Send finished latents to the decoder; their slots can be freed immediately."""
        return self._decoder.start(self.latents(flights))

    @device_faults()
    @torch.inference_mode()
    def decode(self, flights: Sequence[Flight]) -> Pixels:
        """Finished latents -> uint8 pixels (H, W, 3) each; None if a latent is not finite."""
        return self.start_decode(flights).pixels()

    @device_faults()
    @torch.inference_mode()
    def preview(self, flights: Sequence[Flight]) -> Pixels:
        """Like `decode`, for the model's current estimate of each image."""
        return self._decoder.start(self._gather(self._tick.x0, flights)).pixels()

    @torch.inference_mode()
    def latents(self, flights: Sequence[Flight]) -> Tensor:
        """A copy of the images' current latents (n, C, S, S)."""
        return self._gather(self._tick.latents, flights)

    def warm_up(self, report: Callable[[str], None]) -> TickTimes:
        """Run every kernel once, on CUDA record every tick, and time a small and a full tick."""
        report("warming up")
        self._time_tick(1)  # the very first tick builds what all later ones use
        if self.device.type == "cuda":
            self._record(report)
        seconds = [self._time_tick(rows) for rows in self._row_counts.to_warm_up()]
        one_row, full = seconds[0], seconds[-1]
        report(
            f"tick of 1 row: {one_row * 1e3:.1f} ms, of {self.max_rows} rows: {full * 1e3:.1f} ms"
        )
        return TickTimes(min(one_row, full), full)

    def synchronize(self) -> None:
        """Wait until the device has finished everything launched so far."""
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
        """Return unused memory to the device after an out-of-memory error."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _foresee(self, flights: Sequence[Flight]) -> None:
        """Every few steps of an image, have the network compute ahead for the next few."""
        steps = self._network.foreseen_steps
        if steps == 0:
            return
        due = [flight for flight in flights if flight.step % steps == 0]
        pairs = [pair for flight in due for pair in flight.next_pairs(steps, self._null_class)]
        self._network.foresee(pairs)

    def _gather(self, source: Tensor, flights: Sequence[Flight]) -> Tensor:
        """A copy (n, C, S, S) of the images' slots in a buffer."""
        slots = self._staged(torch.tensor([flight.slot for flight in flights]))
        return source.index_select(0, slots.to(self.device, non_blocking=True))

    @device_faults()
    @torch.inference_mode()
    def _record(self, report: Callable[[str], None]) -> None:
        """Record the tick of every row count, with the attention that is fastest here.

        In reproducible mode torch chooses, which is always the same choice; timing could pick
        different kernels at two starts.
        """
        backends = list(BACKENDS) if self._reproducible else [self._fastest_attention()]
        with sdpa_kernel(backends):
            for rows in reversed(self._row_counts.to_warm_up()):  # the largest allocates for all
                report(f"recording the tick of {rows} rows")
                self._tick.record(rows)

    def _fastest_attention(self) -> SDPBackend:
        return fastest_backend(self._attention_shape, dtype=self._dtype, device=self.device)

    def _staged(self, tensor: Tensor) -> Tensor:
        """The tensor in pinned memory for CUDA, so that copying it to the device need not block."""
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
        """Seconds of a tick; a fast one is timed again, as the first may have included building."""
        flights = [self.join(each) for each in trial_trajectories(self.checkpoint.schedule, rows)]
        try:
            seconds = self._seconds_of_tick(flights)
            if seconds < 1.0:
                seconds = self._seconds_of_tick(flights)
            self.decode(flights[:DECODED_AT_ONCE])
        finally:
            for flight in flights:
                self.leave(flight)
        return seconds

    def _seconds_of_tick(self, flights: list[Flight]) -> float:
        began = time.perf_counter()
        self.tick(flights)
        self.synchronize()
        return time.perf_counter() - began


def _padding(device: torch.device, *, full: bool) -> Padding:
    if full:
        return "full"
    return "none" if device.type == "cpu" else "to a power of two"


def _attention_shape(dit: DiT, rows: int) -> tuple[int, int, int, int]:
    """Of q, k and v in a full tick: (rows, heads, T, head_dim)."""
    _, tokens, width = dit.pos_embed.shape
    return rows, dit.num_heads, tokens, width // dit.num_heads
