"""Tick: one denoising step on the device, always in the same buffers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from model.backends.network import Network
from model.backends.step import IMAGE, Buffers, TickStep
from model.runner.flight import Flight, Parked

CAPTURE_TRIALS = 3
"""Runs before a capture, in which libraries choose their kernels and allocate their workspaces."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A tick of one row count as a CUDA graph that reads ``plan``."""

    graph: torch.cuda.CUDAGraph
    plan: Tensor


class Tick:
    """The images in flight on the device, by slot, and what takes them a step further.

    Nothing here waits for the device, except `record`.

    Args:
        network: the forward pass.
        step: what comes before and after it.
        shape: a latent's (C, S, S).
        slots: the most images in flight.
        rows: the most rows of a forward pass.
        device: where the network computes.
        history: whether images may look back on earlier estimates, which take LOOKBACK latents a slot.
        side: the stream on which ticks are captured; needed for `record` alone. It is one stream for
            all of them, for the libraries keep a workspace for each.
    """

    def __init__(
        self,
        network: Network,
        step: TickStep,
        shape: tuple[int, int, int],
        *,
        slots: int,
        rows: int,
        device: torch.device,
        history: bool = False,
        side: torch.cuda.Stream | None = None,
    ) -> None:
        self._side = side
        self._network = network
        self._step = step
        self._device = device
        self._room_for = partial(Buffers.zeros, shape, device=device, history=history)
        self._buffers = self._room_for(slots=slots, rows=rows)
        self._recordings: dict[int, Recording] = {}
        self.spare_slot = slots

    @property
    def latents(self) -> Tensor:
        """(slots + 1, C, S, S)."""
        return self._buffers.latents

    @property
    def x0(self) -> Tensor:
        """The network's latest estimates of the clean latents, (slots + 1, C, S, S)."""
        return self._buffers.x0

    @property
    def has_history(self) -> bool:
        """Whether images may look back on earlier estimates."""
        return self._buffers.history is not None

    def resize(self, *, slots: int, rows: int) -> None:
        """Have room for other numbers of images and rows; images and recordings are gone."""
        if (slots, rows) != (self.spare_slot, len(self._buffers.noise)):
            self.forget_recordings()
            del self._buffers  # so that both are never in memory
            self._buffers = self._room_for(slots=slots, rows=rows)
            self.spare_slot = slots

    def begin(self, slot: int, noise: Tensor) -> None:
        """Start an image, with noise (C, S, S), in a slot."""
        self.latents[slot].copy_(self._staged(noise), non_blocking=True)
        self.x0[slot].zero_()

    def park(self, slot: int, *, history: bool) -> Parked:
        """A copy of what an image has in its slot; of its history only if it looks back on it."""
        kept = self._buffers.history
        return Parked(
            self.latents[slot].clone(),
            self.x0[slot].clone(),
            kept[slot].clone() if history and kept is not None else None,
        )

    def resume(self, slot: int, parked: Parked) -> None:
        """Continue an image in a slot, with what it had in another one."""
        assert parked.x0 is not None, "this is a bug: the image has not begun"
        self.latents[slot].copy_(parked.latent)
        self.x0[slot].copy_(parked.x0)
        if parked.history is not None and self._buffers.history is not None:
            self._buffers.history[slot].copy_(parked.history)

    def gather(self, source: Tensor, flights: Sequence[Flight]) -> Tensor:
        """A copy (n, C, S, S) of the images' slots in ``latents`` or ``x0``."""
        slots = self._staged(torch.tensor([flight.slot for flight in flights]))
        return source.index_select(0, slots.to(self._device, non_blocking=True))

    def run(self, plan: Tensor, noise: Tensor | None) -> None:
        """Advance the images of a plan, which is from `plan_tick`.

        ``noise`` (n, C, S, S) belongs to the first n images; None if no image takes any.
        """
        plan = self._staged(plan)
        if noise is not None:
            self._buffers.noise[: len(noise)].copy_(self._staged(noise), non_blocking=True)
        recording = self._recordings.get(len(plan))
        if recording is None:
            self._advance(plan.to(self._device, non_blocking=True))
        else:
            recording.plan.copy_(plan, non_blocking=True)
            recording.graph.replay()

    def record(self, rows: int) -> None:
        """Capture the tick of one row count, which from then on is a single launch. CUDA only.

        Raises:
            torch.OutOfMemoryError: not enough device memory.
        """
        assert self._side is not None, "this is a bug: no stream for the capture"
        plan = torch.zeros(rows, self._buffers.plan_width, device=self._device)
        plan[:, 0] = self.spare_slot
        plan[:, IMAGE] = torch.arange(rows, device=self._device)
        self._side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._side):  # a failed capture does not leave its stream
            for _ in range(CAPTURE_TRIALS):
                self._advance(plan)
            self._recordings[rows] = Recording(self._capture(plan, self._side), plan)
        torch.cuda.current_stream().wait_stream(self._side)

    def forget_recordings(self) -> None:
        """Free what the recorded ticks hold."""
        self._recordings.clear()

    def _capture(self, plan: Tensor, side: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
        pools = [recording.graph.pool() for recording in self._recordings.values()]
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=pools[0] if pools else None, stream=side):
                self._advance(plan)
        except RuntimeError as error:
            # Ending a broken capture raises an error of its own, which hides the first one.
            if isinstance(error.__context__, torch.OutOfMemoryError):
                raise error.__context__ from None
            raise
        return graph

    def _advance(self, plan: Tensor) -> None:
        answers = self._network(*self._step.inputs(self._buffers, plan))
        self._step.advance(self._buffers, plan, answers)

    def _staged(self, tensor: Tensor) -> Tensor:
        """The tensor in pinned memory for CUDA, so that copying it to the device need not block."""
        return tensor.pin_memory() if self._device.type == "cuda" else tensor
