"""Plain: one forward pass of the DiT as the published code computes it, eager, layer by layer."""

from __future__ import annotations

import torch

from bench.arms.protocol import Answer, ArmSpec, Forward, Task
from bench.arms.timing import mean_seconds
from model.weights.checkpoint import load_checkpoint


class Plain:
    def __init__(self, spec: ArmSpec) -> None:
        self._device = torch.device(spec.device)
        dtype: torch.dtype = getattr(torch, spec.dtype)
        self._dit = load_checkpoint(spec.model, device=self._device, dtype=dtype).dit

    @property
    def dtype(self) -> str:
        return str(self._dit.pos_embed.dtype).removeprefix("torch.")

    def do(self, task: Task) -> Answer:
        assert isinstance(task, Forward), "this is a bug: only a forward pass is plain"
        dit, rows = self._dit, task.rows
        generator = torch.Generator().manual_seed(0)
        shape = (rows, dit.in_channels, dit.input_size, dit.input_size)
        x = torch.randn(shape, generator=generator).to(self._device)
        t = torch.full((rows,), 500.0, device=self._device)
        y = torch.arange(rows, device=self._device) % dit.num_classes
        # With gradients on, the adaLN of each block is computed in its block, as published; the
        # frozen weights ask for none.
        with torch.enable_grad():
            return Answer(mean_seconds(lambda: dit(x, t, y), self._device))
