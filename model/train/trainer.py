"""Trainer: the optimisation loop of every training, with moving average, resume and progress.

The matrices inside a transformer can be given to Muon, which makes each update orthogonal (Jordan et
al. 2024, at the scale of Liu et al. 2025, "Muon is scalable for LLM training", so that AdamW's rates
carry over); AdamW has all else. It comes to the same loss in fewer steps, each of them longer.

Devices and processes are accelerate's matter: the same command runs on a CPU, on one GPU, and on
many through ``accelerate launch -m``. Each process then draws its own part of every batch.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn

MATRIX_RATE = 5.0
"""Muon's learning rate over AdamW's."""

Trained = TypeVar("Trained", bound=nn.Module)

Loss = Callable[[nn.Module, torch.Generator], dict[str, Tensor]]
"""Draws its batch and noise from the generator, on the generator's device; the loss to minimise stands
under ``"loss"``. The module's answer must come from calling it: that is where processes agree."""


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
        """Learning rate at ``step``: linear warm-up, a tenth of the run at most, then decay to zero."""
        warmup = min(1.0, (step + 1) / max(1, min(self.warmup_steps, self.steps // 10)))
        return self.learning_rate * warmup * max(0.0, 1.0 - step / self.steps)


def share(batch_size: int, accelerator: Accelerator) -> int:
    """This process's part of a batch.

    Raises:
        ValueError: the processes do not divide it.
    """
    processes = int(accelerator.num_processes)
    if batch_size % processes:
        raise ValueError(f"a batch of {batch_size} does not divide into {processes} processes")
    return batch_size // processes


class Trainer(Generic[Trained]):
    """One module under AdamW, its ``matrices`` under Muon, with a moving average of its weights."""

    def __init__(
        self,
        module: Trained,
        schedule: Schedule,
        state_file: Path,
        accelerator: Accelerator | None = None,
        matrices: Sequence[nn.Parameter] = (),
    ) -> None:
        self.accelerator = accelerator or Accelerator()
        self.module = module.to(self.device)
        self.ema = copy.deepcopy(module).eval().requires_grad_(False)
        self.schedule = schedule
        self.state_file = state_file
        self.step = 0
        optimizers = _optimizers(module, matrices, schedule)
        self._called, *self.optimizers = self.accelerator.prepare(module, *optimizers)

    @property
    def device(self) -> torch.device:
        return torch.device(self.accelerator.device)

    @property
    def done(self) -> bool:
        return self.step >= self.schedule.steps

    def has_made(self, file: Path) -> bool:
        """The run has ended and ``file``, its fruit, was written after its last state."""
        return self.done and file.exists() and _written_at(file) >= _written_at(self.state_file)

    def resume(self) -> None:
        """Take up the state that an earlier run left on disk, if there is one."""
        if not self.state_file.exists():
            return
        state = torch.load(self.state_file, weights_only=True, map_location="cpu")
        self.module.load_state_dict(state["module"])
        self.ema.load_state_dict(state["ema"])
        for optimizer, of_it in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(of_it)
        self.step = state["step"]
        self._print(f"resumed at step {self.step} of {self.schedule.steps}")

    def save(self) -> None:
        """Write the state beside itself, then put it in place: a kill leaves a whole file."""
        if not self.accelerator.is_main_process:
            return
        state = {
            "module": self.module.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
        }
        self.state_file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.state_file.with_suffix(".tmp")
        torch.save(state, fresh)
        fresh.replace(self.state_file)

    def run(self, loss: Loss, *, log_every: int = 100, save_every: int = 500) -> Trained:
        """Train until the schedule ends; returns the averaged module, on the CPU.

        A step's draws depend on the seed, the step and the process alone.
        """
        self.module.train()
        generator = torch.Generator(self.device)
        means: dict[str, Tensor] = {}
        began, first = time.monotonic(), self.step
        while not self.done:
            generator.manual_seed(self._seed())
            torch.manual_seed(self._seed())
            losses = loss(self._called, generator)
            self._update(losses["loss"])
            for name, value in losses.items():
                share = value.detach().float() / log_every
                means[name] = means[name] + share if name in means else share
            if self.step % log_every == 0:
                self._report(means, (time.monotonic() - began) / (self.step - first))
                means = {}
            if self.step % save_every == 0 or self.done:
                self.save()
        self.accelerator.wait_for_everyone()
        return self.ema.cpu()

    def _seed(self) -> int:
        """Below 2**32 for usual runs: a CPU's generator takes no more of it."""
        process = 100_000_007 * int(self.accelerator.process_index)
        return self.schedule.seed * 1_000_003 + self.step + process

    def _update(self, loss: Tensor) -> None:
        for optimizer, ratio in zip(self.optimizers, (1.0, MATRIX_RATE)):
            for group in optimizer.param_groups:
                group["lr"] = ratio * self.schedule.rate(self.step)
            optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.module.parameters(), self.schedule.clip_norm)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        decay = min(self.schedule.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.ema.parameters()), list(self.module.parameters()), 1 - decay
            )

    def _report(self, means: dict[str, Tensor], seconds_a_step: float) -> None:
        left = (self.schedule.steps - self.step) * seconds_a_step / 60
        figures = "  ".join(f"{name} {float(value):.4f}" for name, value in means.items())
        self._print(
            f"step {self.step}/{self.schedule.steps}  {figures}  "
            f"{seconds_a_step * 1000:.0f} ms/step  {left:.0f} min left"
        )

    def _print(self, line: str) -> None:
        if self.accelerator.is_main_process:
            print(line, flush=True)


def _written_at(file: Path) -> float:
    return file.stat().st_mtime


def _optimizers(
    module: nn.Module, matrices: Sequence[nn.Parameter], schedule: Schedule
) -> list[torch.optim.Optimizer]:
    """AdamW for all parameters but the matrices, and Muon for these."""
    of_muon = {id(matrix) for matrix in matrices}
    rest = [parameter for parameter in module.parameters() if id(parameter) not in of_muon]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, betas=schedule.betas, weight_decay=schedule.weight_decay)
    ]
    if matrices:
        muon = torch.optim.Muon(
            matrices, weight_decay=schedule.weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        optimizers.append(muon)
    return optimizers
