"""Networks: the DiTs that can be trained, and the file that records which one a run trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from model.networks.dit import DiT, DiT_models

DOWNSCALE_FREQ_SHIFT = 1
"""Use diffusers' timestep frequencies, so that DiTPipeline computes what the DiT has learnt."""

SMALL = "small"
NETWORKS: dict[str, Callable[..., DiT]] = {
    SMALL: partial(DiT, hidden_size=256, depth=8, num_heads=4, patch_size=2)
} | DiT_models
"""The bundled model's DiT (9.8 M parameters with 71 classes), and the paper's configurations."""


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """One of NETWORKS, for latents (in_channels, input_size, input_size)."""

    network: str
    in_channels: int
    input_size: int
    num_classes: int

    def build(self) -> DiT:
        """An untrained DiT."""
        return NETWORKS[self.network](
            in_channels=self.in_channels,
            input_size=self.input_size,
            num_classes=self.num_classes,
            downscale_freq_shift=DOWNSCALE_FREQ_SHIFT,
        )

    @classmethod
    def read(cls, file: Path) -> NetworkSpec:
        return cls(**json.loads(file.read_text(encoding="utf-8")))

    def write_or_check(self, file: Path) -> None:
        """Record the network that a run trains, or check that an earlier run trained the same.

        Raises:
            ValueError: the file describes another network.
        """
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")
        elif self.read(file) != self:
            raise ValueError(f"{file.parent} holds a run of another network: {self.read(file)}")
