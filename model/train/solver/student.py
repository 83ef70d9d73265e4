"""Student: a sampler of few steps whose timesteps and coefficients are fitted."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.sampling.samplers import COLUMNS, sampler_table
from model.sampling.schedule import NoiseSchedule
from model.train.solver.denoiser import Denoise


class Student(nn.Module):
    """x_{i+1} = a_i x_i + b_i x0_i + c_i x0_{i-1}, beginning with DPM-Solver++(2M).

    The first timestep stays the noisiest one. Between whole timesteps log(alpha_bar) is taken as
    linear, so that gradients reach the timesteps.
    """

    log_alpha_bar: Tensor

    def __init__(self, schedule: NoiseSchedule, steps: int) -> None:
        super().__init__()
        start = sampler_table(schedule, "dpmpp_2m", steps)
        columns = dict(zip(COLUMNS, start.coefficients.unbind(1)))
        self.first = float(start.timesteps[0])
        self.timesteps = nn.Parameter(start.timesteps[1:].clone())
        self.a = nn.Parameter(columns["a"].clone())
        self.b = nn.Parameter(columns["b"].clone())
        self.c = nn.Parameter(columns["c"][1:].clone())
        log_alpha_bar = torch.from_numpy(schedule.alpha_bar).log().float()
        self.register_buffer("log_alpha_bar", log_alpha_bar)

    def forward(self, denoise: Denoise, x: Tensor, labels: Tensor) -> Tensor:
        """Noises (N, C, S, S) and classes (N,) -> final latents (N, C, S, S)."""
        x0_before = torch.zeros_like(x)
        for t, a, b, c in zip(self._all_timesteps(), self.a, self.b, self._all_c()):
            x0 = self._estimate(x, denoise(x, t, labels), t)
            x, x0_before = a * x + b * x0 + c * x0_before, x0
        return x

    def round(self) -> None:
        """Take whole timesteps."""
        with torch.no_grad():
            last = len(self.log_alpha_bar) - 1
            self.timesteps.copy_(self.timesteps.round().clamp(0, last))

    def columns(self) -> dict[str, list[float]]:
        """The timesteps and coefficients, as Python numbers."""
        with torch.no_grad():
            values = {
                "timesteps": self._all_timesteps(),
                "a": self.a,
                "b": self.b,
                "c": self._all_c(),
            }
            return {name: column.tolist() for name, column in values.items()}

    def _all_timesteps(self) -> Tensor:
        return torch.cat([self.timesteps.new_tensor([self.first]), self.timesteps])

    def _all_c(self) -> Tensor:
        return torch.cat([self.c.new_zeros(1), self.c])

    def _estimate(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        log_alpha_bar = self._log_alpha_bar_at(t)
        alpha_bar = log_alpha_bar.exp()
        return (x - (1 - alpha_bar).sqrt() * noise) / alpha_bar.sqrt()

    def _log_alpha_bar_at(self, t: Tensor) -> Tensor:
        last = len(self.log_alpha_bar) - 1
        t = t.clamp(0, last)
        below = t.detach().floor().clamp(max=last - 1).long()
        low, high = self.log_alpha_bar[below], self.log_alpha_bar[below + 1]
        return low + (t - below) * (high - low)
