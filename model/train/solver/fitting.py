"""Fitting: Adam through all steps of a student, with the network frozen."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from model.train.solver.denoiser import Denoise
from model.train.solver.student import Student
from model.train.solver.teacher import BATCH, Examples

LEARNING_RATES = {"timesteps": 3.0, "a": 0.002, "b": 0.01, "c": 0.01}
SHARPNESS = 0.1
"""The distance, in standard deviations of a latent, from which the loss grows linearly: a few noises
turn into another picture under any small change, and must not decide the fit."""


def loss_of(student: Student, denoise: Denoise, batch: Examples) -> Tensor:
    """The pseudo-Huber distance of each final latent to the teacher's, averaged."""
    squared = distances(student(denoise, batch.noises, batch.labels), batch.latents)
    loss: Tensor = ((squared + SHARPNESS**2).sqrt() - SHARPNESS).mean()
    return loss


def distances(latents: Tensor, expected: Tensor) -> Tensor:
    """The mean squared distance of each latent, over the variance of what is expected: (N,)."""
    return (latents - expected).square().mean(dim=(1, 2, 3)) / expected.var()


@torch.no_grad()
def median_error(
    sample: Callable[[Denoise, Tensor, Tensor], Tensor],
    denoise: Denoise,
    examples: Examples,
) -> float:
    """The median distance to the teacher. A few images that turn into another picture make the mean."""
    parts = [examples.part(slice(i, i + BATCH)) for i in range(0, len(examples), BATCH)]
    latents = torch.cat([sample(denoise, part.noises, part.labels) for part in parts])
    return float(distances(latents, examples.latents).median())


class Fitting:
    """Fits a student to examples; saves its state at every iteration, and continues from it."""

    def __init__(self, student: Student, state_file: Path, *, iterations: int, seed: int) -> None:
        self.student = student
        self.iteration = 0
        self.iterations = iterations
        self._state_file = state_file
        self._seed = seed
        groups = [
            {"params": [getattr(student, name)], "lr": rate, "peak": rate}
            for name, rate in LEARNING_RATES.items()
        ]
        self._optimizer = torch.optim.Adam(groups)
        if state_file.exists():
            self._resume()

    def run(
        self, denoise: Denoise, examples: Examples, report: Callable[[int, float], None]
    ) -> None:
        """Fit to the end; ``report`` is told each iteration and its loss."""
        while self.iteration < self.iterations:
            self._set_rates()
            self._optimizer.zero_grad()
            loss = loss_of(self.student, denoise, examples.part(self._batch(len(examples))))
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            self.iteration += 1
            self._save()
            report(self.iteration, float(loss.detach()))

    def _batch(self, count: int) -> Tensor:
        """The examples of this iteration: each once before any comes again."""
        batches = max(1, count // BATCH)
        epoch, position = divmod(self.iteration, batches)
        generator = torch.Generator().manual_seed(self._seed + epoch)
        order = torch.randperm(count, generator=generator)
        return order[position * BATCH : (position + 1) * BATCH]

    def _set_rates(self) -> None:
        decay = 0.5 * (1 + math.cos(math.pi * self.iteration / self.iterations))
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * decay

    def _save(self) -> None:
        state = {
            "student": self.student.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "iteration": self.iteration,
        }
        temporary = self._state_file.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self._state_file)

    def _resume(self) -> None:
        state = torch.load(self._state_file, weights_only=True, map_location="cpu")
        self.student.load_state_dict(state["student"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.iteration = state["iteration"]
