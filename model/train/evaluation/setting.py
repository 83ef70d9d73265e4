"""EvaluationSetting: how the pictures of one line of an evaluation are sampled."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from typing import get_args

from model.sampling.parameters import SamplerName, Sampling

SPELLING = "SAMPLER:STEPS:CFG_SCALE[:LOW-HIGH]"
EVERYWHERE = (0.0, 1.0)

_PATTERN = re.compile(r"(\w+):(\d+):([\d.]+)(?::([\d.]+)-([\d.]+))?")


@dataclass(frozen=True, slots=True)
class EvaluationSetting:
    """What all pictures of one line have in common. ``str()`` gives the line's name."""

    sampler: SamplerName
    num_sampling_steps: int
    cfg_scale: float
    guidance_interval: tuple[float, float] = EVERYWHERE

    @classmethod
    def parse(cls, text: str) -> EvaluationSetting:
        """Read SPELLING, e.g. ``ddim:50:1.5`` or ``ddim:50:3:0.2-0.8``.

        Raises:
            ValueError: it is spelled differently, or there is no such sampler.
        """
        match = _PATTERN.fullmatch(text)
        samplers = get_args(SamplerName)
        sampler = next((known for known in samplers if match and known == match[1]), None)
        if match is None or sampler is None:
            names = ", ".join(samplers)
            raise ValueError(f"{text!r} must be {SPELLING}, with one of {names} as SAMPLER")
        interval = (float(match[4]), float(match[5])) if match[4] else EVERYWHERE
        return cls(sampler, int(match[2]), float(match[3]), interval)

    def sampling(self, class_label: int, seed: int) -> Sampling:
        """How one image is sampled."""
        return Sampling(
            class_label=class_label,
            cfg_scale=self.cfg_scale,
            num_sampling_steps=self.num_sampling_steps,
            sampler=self.sampler,
            seed=seed,
            guidance_interval=self.guidance_interval,
        )

    def __str__(self) -> str:
        name = f"{self.sampler} {self.num_sampling_steps} cfg {self.cfg_scale:g}"
        if self.guidance_interval == EVERYWHERE:
            return name
        return name + " in {:g}..{:g}".format(*self.guidance_interval)


def setting_option(text: str) -> EvaluationSetting:
    """A setting on a command line."""
    try:
        return EvaluationSetting.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
