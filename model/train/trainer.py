"""Trainer: the optimisation loop both models share, with moving average, resume and progress."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Trained = TypeVar("Trained", bound=nn.Module)

Loss = Callable[[nn.Module, torch.Generator], dict[str, Tensor]]
"""Draws its batch and noise from the generator; the loss to minimise stands under ``"loss"``."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """What the optimiser does over a run of ``steps`` steps."""

    steps: int
    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    warmup_steps: int = 500
    ema_decay: float = 0.999
    clip_norm: float = 1.0
    seed: int = 0

    def rate(self, step: int) -> float:
        """Learning rate at ``step``: linear warm-up, then linear decay to zero."""
        warmup = min(1.0, (step + 1) / self.warmup_steps)
        return self.learning_rate * warmup * max(0.0, 1.0 - step / self.steps)


class Trainer(Generic[Trained]):
    """One module under AdamW with an exponential moving average of its weights."""

    def __init__(self, module: Trained, schedule: Schedule, state_file: Path) -> None:
        self.module = module
        self.ema = copy.deepcopy(module).eval().requires_grad_(False)
        self.schedule = schedule
        self.state_file = state_file
        self.step = 0
        self.optimizer = torch.optim.AdamW(
            module.parameters(),
            lr=schedule.learning_rate,
            betas=schedule.betas,
            weight_decay=schedule.weight_decay,
        )

    def resume(self) -> None:
        """Take up the state that an earlier run left on disk, if there is one."""
        if not self.state_file.exists():
            return
        state = torch.load(self.state_file, weights_only=True, map_location="cpu")
        self.module.load_state_dict(state["module"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        print(f"resumed at step {self.step} of {self.schedule.steps}", flush=True)

    def save(self) -> None:
        """Write the state beside itself, then put it in place: a kill leaves a whole file."""
        state = {
            "module": self.module.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        self.state_file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.state_file.with_suffix(".tmp")
        torch.save(state, fresh)
        fresh.replace(self.state_file)

    def run(self, loss: Loss, *, log_every: int = 100, save_every: int = 500) -> None:
        """Train until the schedule ends. Each step's draws depend on the seed and step alone."""
        self.module.train()
        generator = torch.Generator()
        means: dict[str, float] = {}
        began, first = time.monotonic(), self.step
        while self.step < self.schedule.steps:
            generator.manual_seed(self.schedule.seed * 1_000_003 + self.step)
            torch.manual_seed(self.schedule.seed * 1_000_003 + self.step)
            losses = loss(self.module, generator)
            self._update(losses["loss"])
            for name, value in losses.items():
                means[name] = means.get(name, 0.0) + float(value.detach()) / log_every
            if self.step % log_every == 0:
                self._report(means, (time.monotonic() - began) / (self.step - first))
                means = {}
            if self.step % save_every == 0 or self.step == self.schedule.steps:
                self.save()

    def _update(self, loss: Tensor) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.module.parameters(), self.schedule.clip_norm)
        self.optimizer.step()
        self.step += 1
        decay = min(self.schedule.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.ema.parameters()), list(self.module.parameters()), 1 - decay
            )

    def _report(self, means: dict[str, float], seconds_a_step: float) -> None:
        left = (self.schedule.steps - self.step) * seconds_a_step / 60
        figures = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        print(
            f"step {self.step}/{self.schedule.steps}  {figures}  "
            f"{seconds_a_step * 1000:.0f} ms/step  {left:.0f} min left",
            flush=True,
        )
