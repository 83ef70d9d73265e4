"""Plain: one forward pass of model/networks/dit.py, eager, layer by layer."""

from __future__ import annotations

import torch

from bench.arms.protocol import Answer, ArmSpec, Probe, Task
from bench.arms.timing import mean_seconds
from model.weights.checkpoint import load_checkpoint


class Arm:
    def __init__(self, spec: ArmSpec) -> None:
        self._device = torch.device(spec.device)
        self.dtype: torch.dtype = getattr(torch, spec.dtype)
        self._dit = load_checkpoint(spec.model, device=self._device, dtype=self.dtype).dit

    @torch.no_grad()
    def do(self, task: Task) -> Answer:
        assert isinstance(task, Probe), "this is a bug: plain only does forward passes"
        dit, rows = self._dit, task.size
        generator = torch.Generator().manual_seed(0)
        shape = (rows, dit.in_channels, dit.input_size, dit.input_size)
        x = torch.randn(shape, generator=generator).to(self._device)
        t = torch.full((rows,), 500.0, device=self._device)
        y = torch.arange(rows, device=self._device) % dit.num_classes
        return Answer(mean_seconds(lambda: dit(x, t, y), self._device))
