"""Tick: one denoising step on the device, always in the same buffers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.backends.network import Network
from model.runner.flight import PLAN_COLUMNS
from model.sampling.samplers import COLUMNS, advance

CAPTURE_TRIALS = 3
"""Runs before a capture, in which libraries choose their kernels and allocate their workspaces."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A tick of one row count as a CUDA graph that reads ``plan``."""

    graph: torch.cuda.CUDAGraph
    plan: Tensor


class Tick:
    """The latents of all images in flight, by slot, and the step that advances them.

    ``latents`` and ``x0`` are (slots + 1, C, S, S); padding writes to the last slot.

    Args:
        network: the forward pass.
        shape: a latent's (C, S, S).
        slots: the most images in flight.
        rows: the most rows of a forward pass.
        device: where the network computes.
        side: the stream on which ticks are captured; needed for `record` alone. It is one stream for
            all of them, for the libraries keep a workspace for each.
    """

    def __init__(
        self,
        network: Network,
        shape: tuple[int, int, int],
        *,
        slots: int,
        rows: int,
        device: torch.device,
        side: torch.cuda.Stream | None = None,
    ) -> None:
        self._side = side
        self._network = network
        self._channels = shape[0]
        self.spare_slot = slots
        self.latents = torch.zeros(slots + 1, *shape, device=device)
        self.x0 = torch.zeros_like(self.latents)
        self._noise = torch.zeros(rows, *shape, device=device)
        self._recordings: dict[int, Recording] = {}

    def run(self, plan: Tensor, noise: Tensor | None) -> None:
        """Advance the images of a plan, (rows, len(PLAN_COLUMNS)) from `plan_tick`.

        ``noise`` (n, C, S, S) belongs to the first n images; None if no image takes any. Both may
        be in pinned memory: nothing here waits for the device.
        """
        if noise is not None:
            self._noise[: len(noise)].copy_(noise, non_blocking=True)
        recording = self._recordings.get(len(plan))
        if recording is None:
            self._advance(plan.to(self.latents.device, non_blocking=True))
        else:
            recording.plan.copy_(plan, non_blocking=True)
            recording.graph.replay()

    def record(self, rows: int) -> None:
        """Capture the tick of one row count, which from then on is a single launch. CUDA only.

        Raises:
            torch.OutOfMemoryError: not enough device memory.
        """
        assert self._side is not None, "this is a bug: no stream for the capture"
        plan = torch.zeros(rows, len(PLAN_COLUMNS), device=self.latents.device)
        plan[:, 0] = self.spare_slot
        plan[:, PLAN_COLUMNS.index("image")] = torch.arange(rows, device=plan.device)
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
        slots, null_row = plan[:, 0].long(), plan[:, 1].long()
        cfg_scale = plan[:, 2].view(-1, 1, 1, 1)
        coefficients = plan[:, 3 : 3 + len(COLUMNS)]
        image, t, y = plan[:, -3].long(), plan[:, -2], plan[:, -1].long()
        x = self.latents.index_select(0, slots)  # (R, C, S, S): one per image, then padding
        answers = self._network(x.index_select(0, image), t, y)  # (R, out_channels, S, S)
        conditional = answers[:, : self._channels]
        unconditional = conditional.index_select(0, null_row)
        guided = unconditional + cfg_scale * (conditional - unconditional)
        output = torch.cat([guided, answers[:, self._channels :]], dim=1)
        x0_before = self.x0.index_select(0, slots)
        x, x0 = advance(x, x0_before, output, self._noise[: len(plan)], coefficients)
        self.latents.index_copy_(0, slots, x)
        self.x0.index_copy_(0, slots, x0)
