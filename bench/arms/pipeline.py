"""Pipeline: diffusers' DiTPipeline on the same folder, following its __call__.

The loop around its transformer, scheduler and autoencoder is ours for two reasons: the pipeline uses
1000 as the null class of every model, and official weights need the timestep frequencies that they
were trained with.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
)
from torch import Tensor

from bench.arms.protocol import Answer, ArmSpec, Draw, Task
from model.weights.config_files import JsonFile


class PipelineLoop:
    """The pipeline's parts, loaded the way its from_pretrained does."""

    def __init__(
        self, folder: str, device: str, dtype: torch.dtype, *, compiled: bool = False
    ) -> None:
        self.device = torch.device(device)
        self.dtype = dtype
        self._transformer = DiTTransformer2DModel.from_pretrained(
            folder, subfolder="transformer", torch_dtype=dtype
        ).to(self.device)
        self._vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", torch_dtype=dtype)
        self._vae.to(self.device)
        ddim = DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
        self._schedulers = {
            "ddim": ddim,
            "dpmpp_2m": DPMSolverMultistepScheduler.from_config(ddim.config),
        }
        config = JsonFile.read(Path(folder) / "transformer" / "config.json")
        self._null_class = config.integer("num_embeds_ada_norm", 1000)
        for block in self._transformer.transformer_blocks:
            shift = config.integer("downscale_freq_shift", 0, low=0)
            block.norm1.emb.time_proj.downscale_freq_shift = shift
        if compiled:
            self._transformer = torch.compile(self._transformer)

    @torch.no_grad()
    def latents(
        self,
        labels: Sequence[int],
        seeds: Sequence[int],
        steps: int,
        cfg_scale: float,
        sampler: str = "ddim",
    ) -> Tensor:
        """Denoise one batch, with the same steps, guidance and sampler for all."""
        scheduler = self._schedulers[sampler]
        x = self._noise(seeds)
        channels = x.shape[1]
        y = torch.tensor(labels, device=self.device)
        guided = cfg_scale > 1
        if guided:
            x = torch.cat([x] * 2)
            y = torch.cat([y, torch.full_like(y, self._null_class)])
        scheduler.set_timesteps(steps)
        for t in scheduler.timesteps:
            if guided:
                half = x[: len(x) // 2]
                x = torch.cat([half, half])
            x = scheduler.scale_model_input(x, t)
            timesteps = t[None].to(self.device).expand(len(x))
            output = self._transformer(x, timestep=timesteps, class_labels=y).sample
            if guided:
                eps, rest = output[:, :channels], output[:, channels:]
                conditional, unconditional = eps.chunk(2)
                half_eps = unconditional + cfg_scale * (conditional - unconditional)
                output = torch.cat([torch.cat([half_eps, half_eps]), rest], dim=1)
            x = scheduler.step(output[:, :channels], t, x).prev_sample
        final: Tensor = x.chunk(2)[0] if guided else x
        return final

    @torch.no_grad()
    def pixels(self, latents: Tensor) -> np.ndarray:
        """Latents -> uint8 (N, H, W, 3), through float32 on the host as in the pipeline."""
        images = self._vae.decode(latents / self._vae.config.scaling_factor).sample
        images = (images / 2 + 0.5).clamp(0, 1).cpu().permute(0, 2, 3, 1)
        levels: np.ndarray = images.float().numpy() * 255
        return levels.round().astype(np.uint8)

    def _noise(self, seeds: Sequence[int]) -> Tensor:
        """The noise that our service uses for the same seeds."""
        config = self._transformer.config
        shape = (1, config.in_channels, config.sample_size, config.sample_size)
        draws = [torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seeds]
        return torch.cat(draws).to(self.device, self.dtype)


class Arm:
    def __init__(self, spec: ArmSpec) -> None:
        self.dtype: torch.dtype = getattr(torch, spec.dtype)
        self._loop = PipelineLoop(spec.model, spec.device, self.dtype, compiled=spec.compiled)

    def do(self, task: Task) -> Answer:
        assert isinstance(task, Draw), "this is a bug: the pipeline only draws images"
        assert task.sampler is not None, "this is a bug: the pipeline has no qualities"
        began = time.perf_counter()
        latents = self._loop.latents(
            task.labels, task.seeds, task.steps, task.cfg_scale, task.sampler
        )
        self._loop.pixels(latents)
        seconds = time.perf_counter() - began
        return Answer(seconds, latents.float().flatten().tolist() if task.latents else [])
