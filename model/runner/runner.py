"""ModelRunner: the model on its device: ticks for many images, decoding, warm-up.

The runner owns the device's buffers. A tick reads and writes the slots of the images it is given, and
any images may share a tick. Images beyond the number of slots are parked between their ticks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from model.backends.network import Network
from model.backends.step import PLAIN_STEP, TickStep
from model.device import DeviceLost, OutOfMemory, device_faults
from model.runner import accelerator
from model.runner.accelerator import own_stream
from model.runner.decoding import Decoder, Decoding, Pixels
from model.runner.flight import Flight, foreseen_pairs, fresh_noise, passes_of, plan_tick
from model.runner.recorder import Recorder
from model.runner.row_counts import RowCounts, padding_for
from model.runner.slots import Slots
from model.runner.tick import Tick
from model.runner.tick_log import FinishedTick, TickLog
from model.runner.warm_up import TickTimes, warm_up
from model.sampling.noise import ImageNoise
from model.sampling.trajectory import Trajectory
from model.weights.checkpoint import Checkpoint

__all__ = ["DeviceLost", "Flight", "ModelRunner", "OutOfMemory", "TickTimes"]

DECODED_AT_ONCE = 8
"""Images per decoder pass, whose activations dominate memory at 512 pixels."""

SLOTS_PER_ROW = 4
"""Images with a slot per row of a tick; a tick leaves most of them out."""


class ModelRunner:
    """A network on its device, with room for ``max_rows`` rows per tick.

    Args:
        checkpoint: the model that the network computes. The runner changes nothing in it, and after
            this constructor reads nothing from its DiT.
        network: computes the forward pass.
        step: computes what a tick does around it.
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
        step: TickStep = PLAIN_STEP,
        reproducible: bool = False,
    ) -> None:
        dit = checkpoint.dit
        self.checkpoint = checkpoint
        self.device = dit.pos_embed.device
        self._network = network
        self._null_class = dit.num_classes
        self._shape = (dit.in_channels, dit.input_size, dit.input_size)
        chunks = reproducible and not network.rows_are_independent
        self._padding = padding_for(self.device, chunks=chunks)
        self._tick = Tick(
            network,
            step,
            self._shape,
            slots=SLOTS_PER_ROW * max_rows,
            rows=RowCounts(max_rows, self._padding).chunk,
            device=self.device,
            history=checkpoint.offers_ns,
            side=own_stream(self.device),
        )
        self.limit_rows(max_rows)
        self._recorder = Recorder(self._tick, dit, reproducible=reproducible)
        at_once = 1 if reproducible else DECODED_AT_ONCE
        self._decoder = Decoder(checkpoint.vae, at_once, own_stream(self.device))
        self._log = TickLog(self.device)

    def join(self, trajectory: Trajectory) -> Flight:
        """Give an image a slot and its first noise."""
        looks_back = trajectory.table.past is not None
        assert self._tick.has_history or not looks_back, (
            "this is a bug: not a sampler of this model"
        )
        flight = Flight(trajectory, self._tick.spare_slot, ImageNoise(trajectory.seed, self._shape))
        self._slots.join(flight, flight.noise.draw())
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
        self.wait_for_room()
        rows = self.row_counts.padded(sum(flight.rows for flight in flights))
        with self._log.timing(rows):
            self._slots.seat(flights)
            steps = self._network.foreseen_steps
            self._network.foresee(foreseen_pairs(flights, steps, self._null_class))
            left = [flight for flight in flights if not flight.launched]
            for chunk in passes_of(left, self.row_counts):
                self._launch(chunk)
        for flight in flights:
            flight.advance()
        return rows

    def wait_for_room(self) -> None:
        """Wait until at most one tick is left on the device: the one that runs during the next launch.

        `tick` does so itself. Who calls this before choosing the images chooses them later.

        Raises:
            DeviceLost: the device is gone.
        """
        self._log.wait_for_room()

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
        """Finished latents -> uint8 pixels (H, W, 3) each; None if one is not finite."""
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
        return warm_up(self, report)

    def record(self, report: Callable[[str], None]) -> None:
        """On CUDA, record the tick of every row count.

        Raises:
            torch.OutOfMemoryError: not enough device memory.
        """
        if self.device.type == "cuda":
            self._recorder.record(self.row_counts.to_record(), report)

    def forget_recordings(self) -> None:
        """Free what the recorded ticks hold."""
        self._tick.forget_recordings()

    def forget_ticks(self) -> None:
        """Report none of the ticks so far as finished."""
        self._log.clear()

    def limit_rows(self, max_rows: int) -> None:
        """Set the rows of the largest tick. All slots are free afterwards, and fewer if it is less."""
        self.max_rows = max_rows
        self.slots = SLOTS_PER_ROW * max_rows
        self.row_counts = RowCounts(max_rows, self._padding)
        self._tick.resize(slots=self.slots, rows=self.row_counts.chunk)
        self._slots = Slots(self._tick, self.slots)

    def synchronize(self) -> None:
        """Wait until the device has finished everything launched so far."""
        accelerator.synchronize(self.device)

    def memory_bytes(self) -> dict[str, int]:
        """Device memory by kind; empty on the CPU."""
        return accelerator.memory_bytes(self.device)

    def release_cached_memory(self) -> None:
        """Return unused memory to the device after an out-of-memory error."""
        accelerator.release_cached_memory(self.device)

    def _gather(self, source: Tensor, flights: Sequence[Flight]) -> Tensor:
        self._slots.seat(flights)
        return self._tick.gather(source, flights)

    def _launch(self, flights: list[Flight]) -> None:
        """One forward pass."""
        rows = self.row_counts.padded(sum(flight.rows for flight in flights))
        plan = plan_tick(
            flights,
            rows,
            null_class=self._null_class,
            spare_slot=self._tick.spare_slot,
            history=self._tick.has_history,
        )
        self._tick.run(plan, fresh_noise(flights, self._shape))
        for flight in flights:
            flight.launched = True
