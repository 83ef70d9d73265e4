"""Count: a model's multiply-accumulates, by torch's FLOP counter on meta tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch.utils.flop_counter import FlopCounterMode

from bench.arms.protocol import Answer, ArmSpec, Probe, Task
from model.networks.dit import DiT
from model.weights.config_files import JsonFile


class Arm:
    dtype = torch.float32

    def __init__(self, spec: ArmSpec) -> None:
        self._folder = Path(spec.model)
        self._config = JsonFile.read(self._folder / "transformer" / "config.json")
        self._size = self._config.integer("sample_size", 32)

    @torch.no_grad()
    def do(self, task: Task) -> Answer:
        assert isinstance(task, Probe), "this is a bug: a counter only counts"
        with torch.device("meta"):
            return Answer(0.0, [self._row_macs(), self._decoder_macs()])

    def _row_macs(self) -> float:
        config, channels = self._config, self._config.integer("in_channels", 4)
        heads = config.integer("num_attention_heads", 16)
        dit = DiT(
            input_size=self._size,
            patch_size=config.integer("patch_size", 2),
            in_channels=channels,
            hidden_size=heads * config.integer("attention_head_dim", 72),
            depth=config.integer("num_layers", 28),
            num_heads=heads,
            num_classes=config.integer("num_embeds_ada_norm", 1000),
        ).eval()
        x = torch.empty(1, channels, self._size, self._size)
        t, y = torch.empty(1), torch.zeros(1, dtype=torch.int64)
        return macs(lambda: dit(x, t, y))

    def _decoder_macs(self) -> float:
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(self._folder / "vae")).eval()
        z = torch.empty(1, vae.config.latent_channels, self._size, self._size)
        return macs(lambda: vae.decode(z))


def macs(work: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops()) / 2
