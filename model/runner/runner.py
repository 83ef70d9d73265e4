"""ModelRunner: the model on its device: ticks for many images, decoding, warm-up.

The runner owns the device's buffers. A tick reads and writes the slots of the images it is given, and
any images may share a tick. Images beyond the number of slots are parked between their ticks.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from model.backends.attention import BACKENDS, fastest_backend
from model.backends.network import Network
from model.device import DeviceLost, OutOfMemory, device_faults
from model.networks.dit import DiT
from model.runner.decoding import Decoder, Decoding, Pixels
from model.runner.flight import Flight, chunks_of, fresh_noise, plan_tick
from model.runner.row_counts import Padding, RowCounts
from model.runner.slots import Slots
from model.runner.tick import Tick
from model.runner.tick_log import FinishedTick, TickLog
from model.runner.warm_up import TickTimes, decodes_to_warm_up, tick_seconds, warm_decoder
from model.sampling.noise import ImageNoise
from model.sampling.trajectory import Trajectory
from model.weights.checkpoint import Checkpoint

__all__ = ["DeviceLost", "Flight", "ModelRunner", "OutOfMemory", "TickTimes"]

DECODED_AT_ONCE = 8
"""Images per decoder pass, whose activations dominate memory at 512 pixels."""

SLOTS_PER_ROW = 4
"""Images with a slot per row of a tick; a tick leaves most of them out."""

LEAST_ROWS = 2
"""What a guided image takes: without room for these there is nothing to serve."""


class ModelRunner:
    """A network on its device, with room for ``max_rows`` rows per tick.

    Args:
        checkpoint: the model that the network computes. The runner changes nothing in it, and after
            this constructor reads nothing from its DiT.
        network: computes the forward pass.
        max_rows: rows of the largest tick; `warm_up` lowers them if the memory does not suffice.
        reproducible: make an image's bytes independent of the images computed with it: decode one
            image at a time and, unless the network's rows are independent, run every forward pass
            with the same number of rows.
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
        self.device = dit.pos_embed.device
        self._network = network
        self._reproducible = reproducible
        self._null_class = dit.num_classes
        self._shape = (dit.in_channels, dit.input_size, dit.input_size)
        self._attention_shape = _attention_shape(dit)
        self._dtype = dit.pos_embed.dtype
        chunks = reproducible and not network.rows_are_independent
        self._padding = _padding(self.device, chunks=chunks)
        self._tick = Tick(
            network,
            self._shape,
            slots=SLOTS_PER_ROW * max_rows,
            rows=RowCounts(max_rows, self._padding).chunk,
            device=self.device,
            side=_stream(self.device),
        )
        self._limit_rows(max_rows)
        at_once = 1 if reproducible else DECODED_AT_ONCE
        self._decoder = Decoder(checkpoint.vae, at_once, _stream(self.device))
        self._log = TickLog(self.device)

    def join(self, trajectory: Trajectory) -> Flight:
        """Give an image a slot and its first noise."""
        flight = Flight(trajectory, self._tick.spare_slot, ImageNoise(trajectory.seed, self._shape))
        self._slots.join(flight, self._staged(flight.noise.draw()))
        return flight

    def leave(self, flight: Flight) -> None:
        """Free an image's slot, at any step."""
        self._slots.leave(flight)

    @device_faults()
    @torch.inference_mode()
    def tick(self, flights: Sequence[Flight]) -> int:
        """Advance every image by one step; returns the rows of the forward passes, with padding.

        Step counts advance only after everything has been launched, so after an exception the same
        images, or some of them, can be given again: what was launched already is not repeated.

        Raises:
            OutOfMemory: not enough device memory for these rows.
            DeviceLost: the device is gone.
        """
        self._log.wait_for_room()
        rows = self._row_counts.padded(sum(flight.rows for flight in flights))
        with self._log.timing(rows):
            self._slots.seat(flights)
            self._foresee(flights)
            left = [flight for flight in flights if not flight.launched]
            for chunk in self._chunks(left):
                self._launch(chunk)
        for flight in flights:
            flight.advance()
        return rows

    def finished_ticks(self) -> list[FinishedTick]:
        """The ticks that have finished since the last call, each with its time; waits for none."""
        return self._log.finished()

    @property
    def decoded_at_once(self) -> int:
        """The most images that should share a decoder pass."""
        return self._decoder.at_once

    def limit_decodes(self, images: int) -> None:
        """From now on at most this many images should share a decoder pass, but at least one."""
        self._decoder.limit(images)

    @device_faults()
    @torch.inference_mode()
    def start_decode(self, flights: Sequence[Flight]) -> Decoding:
        """Decode finished latents in one pass; their slots can be freed immediately."""
        return self._decoder.start(self.latents(flights))

    @device_faults()
    @torch.inference_mode()
    def start_preview(self, flights: Sequence[Flight]) -> Decoding:
        """Like `start_decode`, for the model's current estimate of each image."""
        return self._decoder.start(self._gather(self._tick.x0, flights))

    def decode(self, flights: Sequence[Flight]) -> Pixels:
        """Finished latents -> uint8 pixels (H, W, 3) each; None if a latent is not finite."""
        passes = range(0, len(flights), self.decoded_at_once)
        decodings = [self.start_decode(flights[i : i + passes.step]) for i in passes]
        return [image for decoding in decodings for image in decoding.pixels()]

    @torch.inference_mode()
    def latents(self, flights: Sequence[Flight]) -> Tensor:
        """A copy of the images' current latents (n, C, S, S)."""
        return self._gather(self._tick.latents, flights)

    def warm_up(self, report: Callable[[str], None]) -> TickTimes:
        """Run every kernel once, on CUDA record every tick, and time a small and a full tick.

        As long as the memory does not suffice, ``max_rows`` is halved. No image may be in flight.

        Raises:
            ValueError: the memory does not suffice for `LEAST_ROWS` rows.
        """
        while True:
            times = self._warm_up_if_it_fits(report)
            if times is not None:
                return times
            gc.collect()  # what the failed attempt held
            self.release_cached_memory()
            if self.max_rows <= LEAST_ROWS:
                raise ValueError(f"not enough memory on {self.device} for {self.max_rows} rows")
            self._limit_rows(max(LEAST_ROWS, self.max_rows // 2))
            report(f"out of memory: from now on ticks of at most {self.max_rows} rows")

    def synchronize(self) -> None:
        """Wait until the device has finished everything launched so far."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

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

    def _limit_rows(self, max_rows: int) -> None:
        """Set the rows of the largest tick. All slots are free afterwards."""
        self.max_rows = max_rows
        self.slots = SLOTS_PER_ROW * max_rows
        self._row_counts = RowCounts(max_rows, self._padding)
        self._slots = Slots(self._tick, self.slots)

    def _chunks(self, flights: list[Flight]) -> list[list[Flight]]:
        """The images of each forward pass."""
        if self._padding == "chunks":
            return chunks_of(flights, self._row_counts.chunk)
        return [flights] if flights else []

    def _launch(self, flights: list[Flight]) -> None:
        """One forward pass."""
        rows = self._row_counts.padded(sum(flight.rows for flight in flights))
        plan = plan_tick(
            flights, rows, null_class=self._null_class, spare_slot=self._tick.spare_slot
        )
        noise = fresh_noise(flights, self._shape)
        self._tick.run(self._staged(plan), None if noise is None else self._staged(noise))
        for flight in flights:
            flight.launched = True

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
        self._slots.seat(flights)
        slots = self._staged(torch.tensor([flight.slot for flight in flights]))
        return source.index_select(0, slots.to(self.device, non_blocking=True))

    def _staged(self, tensor: Tensor) -> Tensor:
        """The tensor in pinned memory for CUDA, so that copying it to the device need not block."""
        return tensor.pin_memory() if self.device.type == "cuda" else tensor

    def _warm_up_if_it_fits(self, report: Callable[[str], None]) -> TickTimes | None:
        """One attempt at these ``max_rows``; None if the memory does not suffice."""
        try:
            with device_faults():
                return self._warm_up_once(report)
        except OutOfMemory:
            self._tick.forget_recordings()
            return None
        finally:
            self._log.clear()  # trials tell nothing of the ticks to come

    def _warm_up_once(self, report: Callable[[str], None]) -> TickTimes:
        report("warming up")
        schedule = self.checkpoint.schedule
        tick_seconds(self, schedule, 1)  # the very first tick builds what all later ones use
        if self.device.type == "cuda":
            self._record(report)
        counts = self._row_counts.to_warm_up()
        seconds = [tick_seconds(self, schedule, rows) for rows in counts]
        most = min(self.decoded_at_once, self.max_rows)
        passes = decodes_to_warm_up(self.device, most)
        decode = warm_decoder(self, schedule, passes, report)
        one_row, full = seconds[0], seconds[-1]
        report(
            f"tick of 1 row: {one_row * 1e3:.1f} ms, of {self.max_rows} rows: {full * 1e3:.1f} ms"
        )
        least_rows = self._row_counts.padded(1)
        return TickTimes(min(one_row, full), full, least_rows=least_rows, decode=decode)

    @torch.inference_mode()
    def _record(self, report: Callable[[str], None]) -> None:
        """Record the tick of every row count, with the attention that is fastest here.

        In reproducible mode torch chooses, which is always the same choice; timing could pick
        different kernels at two starts.
        """
        backends = list(BACKENDS) if self._reproducible else [self._fastest_attention(report)]
        with sdpa_kernel(backends):
            for rows in reversed(self._row_counts.to_record()):  # the largest allocates for all
                report(f"recording the tick of {rows} rows")
                self._tick.record(rows)

    def _fastest_attention(self, report: Callable[[str], None]) -> SDPBackend:
        shape = (self._row_counts.chunk, *self._attention_shape)
        return fastest_backend(shape, dtype=self._dtype, device=self.device, report=report)


def _padding(device: torch.device, *, chunks: bool) -> Padding:
    if chunks:
        return "chunks"
    return "none" if device.type == "cpu" else "buckets"


def _stream(device: torch.device) -> torch.cuda.Stream | None:
    """A stream of its own on CUDA."""
    if device.type != "cuda":
        return None
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _attention_shape(dit: DiT) -> tuple[int, int, int]:
    """Of a row's q, k and v: (heads, T, head_dim)."""
    _, tokens, width = dit.pos_embed.shape
    return dit.num_heads, tokens, width // dit.num_heads
