"""The teacher: what a solver of many steps makes of each noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import UniPCMultistepScheduler
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.sampling.schedule import NoiseSchedule
from model.train.solver.denoiser import Denoise

TEACHER_STEPS = 32
BATCH = 16


@dataclass(frozen=True, slots=True)
class Examples:
    """Noises (N, C, S, S), the classes (N,), and the teacher's final latents (N, C, S, S)."""

    noises: Tensor
    labels: Tensor
    latents: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, which: Tensor | slice) -> Examples:
        return Examples(self.noises[which], self.labels[which], self.latents[which])

    def to(self, device: torch.device) -> Examples:
        return Examples(*(each.to(device) for each in (self.noises, self.labels, self.latents)))


def draw(count: int, shape: tuple[int, int, int], num_classes: int, seed: int) -> Examples:
    """Noises of evenly drawn classes, whose latents are still empty."""
    generator = torch.Generator().manual_seed(seed)
    noises = torch.randn(count, *shape, generator=generator)
    rounds = [torch.randperm(num_classes, generator=generator) for _ in range(count // num_classes)]
    rest = torch.randperm(num_classes, generator=generator)[: count % num_classes]
    return Examples(noises, torch.cat([*rounds, rest]), torch.empty(0, *shape))


@torch.no_grad()
def teach(
    denoise: Denoise,
    schedule: NoiseSchedule,
    examples: Examples,
    file: Path,
    *,
    device: torch.device,
    report: Callable[[int], None],
) -> Examples:
    """Fill in the teacher's latents: UniPC-3 (Zhao et al. 2023, arXiv 2302.04867) of 32 steps.

    Every batch is saved in ``file``, from which an interrupted call continues. ``report`` is told
    how many are done.
    """
    latents = load_file(file)["latents"] if file.exists() else examples.latents
    for begin in range(len(latents), len(examples), BATCH):
        noises = examples.noises[begin : begin + BATCH].to(device)
        labels = examples.labels[begin : begin + BATCH].to(device)
        latents = torch.cat([latents, _solve(denoise, schedule, noises, labels).cpu()])
        save_file({"latents": latents}, file.with_suffix(".tmp"))
        file.with_suffix(".tmp").replace(file)
        report(len(latents))
    return Examples(examples.noises, examples.labels, latents).to(device)


def _solve(denoise: Denoise, schedule: NoiseSchedule, x: Tensor, labels: Tensor) -> Tensor:
    teacher = UniPCMultistepScheduler(
        num_train_timesteps=schedule.num_train_timesteps,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        beta_schedule="linear",
        solver_order=3,
    )
    teacher.set_timesteps(min(TEACHER_STEPS, schedule.num_train_timesteps))
    for t in teacher.timesteps:
        noise = denoise(x, t.to(x.device), labels)
        x = teacher.step(noise, t, x, return_dict=False)[0]
    return x
