"""Pictures from a checkpoint in plain batches, for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.networks.dit import DiT
from model.sampling.noise import ImageNoise
from model.sampling.samplers import SamplerTable, advance, sampler_table
from model.sampling.trajectory import guided_steps
from model.weights.checkpoint import Checkpoint

BATCH = 71


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the pictures of one evaluation are drawn."""

    sampler: str = "ddim"
    steps: int = 50
    cfg_scale: float = 1.5
    guidance_interval: tuple[float, float] = (0.0, 1.0)

    def __str__(self) -> str:
        everywhere = self.guidance_interval == (0.0, 1.0)
        where = "" if everywhere else " in {:g}..{:g}".format(*self.guidance_interval)
        return f"{self.sampler} {self.steps} cfg {self.cfg_scale:g}{where}"


def generate(checkpoint: Checkpoint, labels: Tensor, sampling: Sampling, seed: int = 0) -> Tensor:
    """Return uint8 pictures (N, 3, S, S) of the classes (N,); the i-th has the seed ``seed + i``."""
    schedule = checkpoint.schedule
    table = sampler_table(schedule, sampling.sampler, sampling.steps)
    guided = guided_steps(schedule, table, sampling.cfg_scale, sampling.guidance_interval)
    scales = [sampling.cfg_scale if each else 1.0 for each in guided]
    pictures = []
    for begin in range(0, len(labels), BATCH):
        part = labels[begin : begin + BATCH]
        latents = _denoise(checkpoint.dit, part, table, scales, seed + begin)
        decoded, _ = checkpoint.vae.decode(latents)  # (n, S, S, 3)
        pictures.append(decoded.permute(0, 3, 1, 2).contiguous().cpu())
    return torch.cat(pictures)


@torch.no_grad()
def _denoise(
    dit: DiT, labels: Tensor, table: SamplerTable, cfg_scales: Sequence[float], seed: int
) -> Tensor:
    shape = (dit.in_channels, dit.input_size, dit.input_size)
    noises = [ImageNoise(seed + i, shape) for i in range(len(labels))]
    device = dit.pos_embed.device
    x = torch.stack([noise.draw() for noise in noises]).to(device)  # (n, C, s, s)
    x0 = fresh = torch.zeros_like(x)
    labels = labels.to(device)
    lines = zip(table.timesteps.to(device), table.coefficients.to(device), cfg_scales)
    for step, (timestep, row, cfg_scale) in enumerate(lines):
        output = _answer(dit, x, timestep, labels, cfg_scale)
        if table.draws(step):
            fresh = torch.stack([noise.draw() for noise in noises]).to(device)
        x, x0 = advance(x, x0, output, fresh, row.expand(len(x), -1))
    return x


def _answer(dit: DiT, x: Tensor, timestep: Tensor, labels: Tensor, cfg_scale: float) -> Tensor:
    """The guided answer (n, out_channels, s, s) at one timestep."""
    count = len(x)
    if cfg_scale == 1.0:
        answer: Tensor = dit(x, timestep.expand(count), labels)
        return answer
    both = torch.cat([labels, torch.full_like(labels, dit.num_classes)])
    guided = dit.forward_with_cfg(torch.cat([x, x]), timestep.expand(2 * count), both, cfg_scale)
    return guided[:count]
