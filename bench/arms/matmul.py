"""Matmul: a bare matrix product, the peak that other speeds are compared with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.arms.protocol import Answer, ArmSpec, Probe, Task
from bench.arms.timing import mean_seconds


class Arm:
    def __init__(self, spec: ArmSpec) -> None:
        self._device = torch.device(spec.device)
        self.dtype: torch.dtype = getattr(torch, spec.dtype)

    @torch.inference_mode()
    def do(self, task: Task) -> Answer:
        assert isinstance(task, Probe), "this is a bug: a matmul only multiplies"
        shape = (task.size, task.size)
        a, b = (torch.randn(shape, device=self._device).to(self.dtype) for _ in range(2))
        forms: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (torch.mm, F.linear)
        seconds = min(mean_seconds(partial(form, a, b), self._device) for form in forms)
        return Answer(seconds, [2 * task.size**3 / seconds])
