"""Trainer: the optimisation loop of every training, with moving average, resume and progress.

The matrices of a transformer can go to Muon, which orthogonalises each update (Jordan et al. 2024,
scaled as in Liu et al. 2025, "Muon is scalable for LLM training", so that AdamW's learning rates
carry over); AdamW takes all other parameters. Muon reaches the same loss in fewer, slower steps.

accelerate handles devices and processes: the same command runs on a CPU, on one GPU, or on several
through ``accelerate launch -m``. Each process draws its own part of every batch.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from model.train.stages import Settings, Stage

MUON_RATE_FACTOR = 5.0
"""Muon's learning rate divided by AdamW's."""

FIRST_REPORT = 10
"""Steps until the log first says how long the rest takes."""

Trained = TypeVar("Trained", bound=nn.Module)

Loss = Callable[[nn.Module, torch.Generator], dict[str, Tensor]]
"""Draws a batch and its noise with the generator, on the generator's device, and returns the loss to
minimise under ``"loss"``, with any terms worth reporting. It must call the module itself, not one of
its methods: that call is where several processes synchronise their gradients."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The optimiser's settings for a run of ``steps`` steps."""

    steps: int
    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    warmup_steps: int = 500
    ema_decay: float = 0.999
    clip_norm: float = 1.0
    seed: int = 0

    def rate(self, step: int) -> float:
        """Learning rate at ``step``: linear warm-up, then linear decay to zero.

        The warm-up takes ``warmup_steps``, but never more than a tenth of the run.
        """
        warmup = min(1.0, (step + 1) / max(1, min(self.warmup_steps, self.steps // 10)))
        return self.learning_rate * warmup * max(0.0, 1.0 - step / self.steps)


def local_batch_size(batch_size: int, accelerator: Accelerator) -> int:
    """This process's part of a batch.

    Raises:
        ValueError: the batch size is not a multiple of the number of processes.
    """
    processes = int(accelerator.num_processes)
    if batch_size % processes:
        raise ValueError(f"batch size {batch_size} is not divisible by {processes} processes")
    return batch_size // processes


class Trainer(Generic[Trained]):
    """Trains one module with AdamW and keeps a moving average of its weights.

    Args:
        module: moved to the accelerator's device.
        schedule: the optimiser's settings.
        state_file: where `save` writes and `resume` reads the state of the run.
        accelerator: the devices and processes.
        muon_matrices: the module's parameters that Muon updates in place of AdamW.
        stage: names the training in the log and in errors.
        settings: what else the training depends on; saved with the state, and the same on resuming.
    """

    def __init__(
        self,
        module: Trained,
        schedule: Schedule,
        state_file: Path,
        *,
        accelerator: Accelerator,
        muon_matrices: Sequence[nn.Parameter] = (),
        stage: Stage | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.accelerator = accelerator
        self.stage = stage or Stage(state_file.name.partition(".")[0])
        self.settings = asdict(schedule) | dict(settings or {})
        self.module = module.to(self.device)
        self.ema = copy.deepcopy(module).eval().requires_grad_(False)
        self.schedule = schedule
        self.state_file = state_file
        self.step = 0
        optimizers = _optimizers(module, muon_matrices, schedule)
        self._prepared_module, *self.optimizers = accelerator.prepare(module, *optimizers)

    @property
    def device(self) -> torch.device:
        return torch.device(self.accelerator.device)

    @property
    def done(self) -> bool:
        return self.step >= self.schedule.steps

    def is_up_to_date(self, output: Path) -> bool:
        """Whether the run has ended and ``output`` was written after its last saved state."""
        return self.done and output.exists() and _mtime(output) >= _mtime(self.state_file)

    def resume(self) -> None:
        """Continue from the saved state of an earlier run, if there is one.

        Raises:
            ValueError: the earlier run had other settings.
        """
        if not self.state_file.exists():
            return
        state = torch.load(self.state_file, weights_only=True, map_location="cpu")
        self.stage.check(state.get("settings", {}), self.settings, self.state_file.parent)
        self.module.load_state_dict(state["module"])
        self.ema.load_state_dict(state["ema"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step = state["step"]
        self._print(f"resumed at step {self.step} of {self.schedule.steps}")

    def save(self) -> None:
        """Write the state to a temporary file and rename it, so that a kill leaves no partial file."""
        if not self.accelerator.is_main_process:
            return
        state = {
            "module": self.module.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "settings": self.settings,
        }
        self.state_file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.state_file.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self.state_file)

    def run(self, loss: Loss, *, log_every: int = 100, save_every: int = 500) -> Trained:
        """Train to the end of the schedule and return the averaged module, on the CPU.

        A step's random numbers depend only on the seed, the step and the process, so an interrupted
        run ends with the same weights as an uninterrupted one.
        """
        self.module.train()
        generator = torch.Generator(self.device)
        sums: dict[str, Tensor] = {}
        started, first_step, reported = time.monotonic(), self.step, self.step
        if not self.done:
            self._print(f"{self.schedule.steps - self.step} steps")
        while not self.done:
            generator.manual_seed(self._seed())
            torch.manual_seed(self._seed())
            losses = loss(self._prepared_module, generator)
            self._update(losses["loss"])
            for name, value in losses.items():
                part = value.detach().float()
                sums[name] = sums[name] + part if name in sums else part
            taken = self.step - first_step
            if self.step % log_every == 0 or taken == FIRST_REPORT or self.done:
                means = {
                    name: float(value) / (self.step - reported) for name, value in sums.items()
                }
                self._report(means, (time.monotonic() - started) / taken)
                sums, reported = {}, self.step
            if self.step % save_every == 0 or self.done:
                self.save()
        self.accelerator.wait_for_everyone()
        return self.ema.cpu()

    def _seed(self) -> int:
        """Below 2**32 in practice: a CPU generator uses only a seed's low 32 bits."""
        process = 100_000_007 * int(self.accelerator.process_index)
        return self.schedule.seed * 1_000_003 + self.step + process

    def _update(self, loss: Tensor) -> None:
        for optimizer, factor in zip(self.optimizers, (1.0, MUON_RATE_FACTOR)):
            for group in optimizer.param_groups:
                group["lr"] = factor * self.schedule.rate(self.step)
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

    def _report(self, means: dict[str, float], seconds_per_step: float) -> None:
        left = (self.schedule.steps - self.step) * seconds_per_step
        terms = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        self._print(
            f"step {self.step}/{self.schedule.steps}  {terms}  "
            f"{1000 * seconds_per_step:.0f} ms/step  {in_words(left)} left"
        )

    def _print(self, line: str) -> None:
        if self.accelerator.is_main_process:
            print(f"{self.stage.title}: {line}", flush=True)


def in_words(seconds: float) -> str:
    """Seconds below 100, then whole minutes, then hours and minutes."""
    hours, minutes = divmod(round(seconds / 60), 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def saved_settings(state_file: Path) -> Settings:
    """What the state in a file was trained with; empty if there is no file."""
    if not state_file.exists():
        return {}
    state = torch.load(state_file, weights_only=True, map_location="cpu", mmap=True)
    settings: Settings = state.get("settings", {})
    return settings


def _optimizers(
    module: nn.Module, muon_matrices: Sequence[nn.Parameter], schedule: Schedule
) -> list[torch.optim.Optimizer]:
    """AdamW for all parameters but the matrices, then Muon for the matrices, if there are any."""
    muon_ids = {id(matrix) for matrix in muon_matrices}
    others = [parameter for parameter in module.parameters() if id(parameter) not in muon_ids]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, betas=schedule.betas, weight_decay=schedule.weight_decay)
    ]
    if muon_matrices:
        muon = torch.optim.Muon(
            muon_matrices, weight_decay=schedule.weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        optimizers.append(muon)
    return optimizers


def _mtime(path: Path) -> int:
    return path.stat().st_mtime_ns
