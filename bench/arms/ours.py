"""Ours: the runner as the service builds it, driven the way its worker drives it."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import torch

from bench.arms.launches import kernels_of
from bench.arms.protocol import Answer, ArmSpec, Draw, Probe, Task
from bench.arms.timing import mean_seconds
from model.runner.flight import Flight
from model.sampling.parameters import Sampling
from model.sampling.presets import DEFAULT_QUALITY, recipe_for
from model.sampling.samplers import ddim_table
from model.sampling.trajectory import Trajectory, plan_trajectory
from service.load_model import load_runner
from service.settings import read_settings

MANY = 1000
"""Steps of an image whose single steps are timed: it never finishes meanwhile."""


class Arm:
    def __init__(self, spec: ArmSpec) -> None:
        flags = ["--model", spec.model, "--device", spec.device, "--dtype", spec.dtype]
        if spec.max_rows is not None:
            flags += ["--max-rows", str(spec.max_rows)]
        if spec.compiled:
            flags.append("--compile")
        self._runner = load_runner(read_settings(flags))
        self._runner.warm_up(lambda line: print(line, file=sys.stderr))
        self._schedule = self._runner.checkpoint.schedule
        self._classes = self._runner.checkpoint.dit.num_classes
        self.dtype: torch.dtype = self._runner.checkpoint.dit.pos_embed.dtype

    def do(self, task: Task) -> Answer:
        return self._draw(task) if isinstance(task, Draw) else self._step(task)

    def _draw(self, task: Draw) -> Answer:
        """In batches of as many images as fit into the rows of a tick."""
        plans = [
            self._plan(label, seed, task.steps, task.cfg_scale)
            if task.sampler is not None
            else self._default(label, seed, task.cfg_scale)
            for label, seed in zip(task.labels, task.seeds)
        ]
        together = self._runner.max_rows // plans[0].peak_rows
        values: list[float] = []
        began = time.perf_counter()
        for start in range(0, len(plans), together):
            flights = [self._runner.join(plan) for plan in plans[start : start + together]]
            while not flights[0].done:
                self._runner.tick(flights)
            self._runner.decode(flights)
            if task.latents:
                values += self._runner.latents(flights).flatten().tolist()
            for flight in flights:
                self._runner.leave(flight)
        return Answer(time.perf_counter() - began, values)

    def _step(self, task: Probe) -> Answer:
        guided = task.size % 2 == 0
        plans = [
            self._plan(i % self._classes, i, MANY, 2.0 if guided else 1.0)
            for i in range(task.size // 2 if guided else task.size)
        ]
        flights = [self._runner.join(plan) for plan in plans]
        seconds = mean_seconds(lambda: self._runner.tick(flights), self._runner.device)
        kernels = self._kernels(flights) if task.kernels else None
        for flight in flights:
            self._runner.leave(flight)
        return Answer(seconds, [] if kernels is None else [kernels])

    def _kernels(self, flights: Sequence[Flight]) -> int | None:
        return kernels_of(lambda: self._runner.tick(flights), self._runner.device)

    def _default(self, label: int, seed: int, cfg_scale: float) -> Trajectory:
        """As for a request that names neither steps nor sampler."""
        checkpoint = self._runner.checkpoint
        recipe = recipe_for(checkpoint.presets, DEFAULT_QUALITY, cfg_scale)
        sampling = Sampling(
            class_label=label,
            cfg_scale=cfg_scale,
            num_sampling_steps=recipe.num_sampling_steps,
            sampler=recipe.sampler,
            seed=seed,
            guidance_interval=recipe.guidance_interval,
        )
        return plan_trajectory(self._schedule, sampling, checkpoint.fitted)

    def _plan(self, label: int, seed: int, steps: int, cfg_scale: float) -> Trajectory:
        """DDIM at the timesteps of diffusers' "leading" spacing, so that all arms agree."""
        stride = self._schedule.num_train_timesteps // steps
        timesteps = range((steps - 1) * stride, -1, -stride)
        rows = (1 if cfg_scale == 1.0 else 2,) * steps
        return Trajectory(label, cfg_scale, seed, ddim_table(self._schedule, timesteps), rows)
