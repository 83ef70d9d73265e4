"""Count: multiply-accumulates of a model, by torch's FLOP counter on tensors without data."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch.utils.flop_counter import FlopCounterMode

from bench.arms.protocol import Answer, ArmSpec, Count, Task
from model.networks.dit import DiT
from model.weights.config_files import JsonFile


class Counter:
    dtype = "none"

    def __init__(self, spec: ArmSpec) -> None:
        self._folder = Path(spec.model)

    def do(self, task: Task) -> Answer:
        """``values`` are those of one forward row and of decoding one image."""
        assert isinstance(task, Count), "this is a bug: a counter only counts"
        return Answer(0.0, [_row_macs(self._folder), _decoder_macs(self._folder)])


@torch.no_grad()
def _row_macs(folder: Path) -> float:
    config = JsonFile.read(folder / "transformer" / "config.json")
    size, channels = config.integer("sample_size", 32), config.integer("in_channels", 4)
    heads = config.integer("num_attention_heads", 16)
    with torch.device("meta"):
        dit = DiT(
            input_size=size,
            patch_size=config.integer("patch_size", 2),
            in_channels=channels,
            hidden_size=heads * config.integer("attention_head_dim", 72),
            depth=config.integer("num_layers", 28),
            num_heads=heads,
            num_classes=config.integer("num_embeds_ada_norm", 1000),
        ).eval()
        x = torch.empty(1, channels, size, size)
        with FlopCounterMode(display=False) as counter:
            dit(x, torch.empty(1), torch.zeros(1, dtype=torch.int64))
    return float(counter.get_total_flops()) / 2


@torch.no_grad()
def _decoder_macs(folder: Path) -> float:
    fields = AutoencoderKL.load_config(folder / "vae")
    size = JsonFile.read(folder / "transformer" / "config.json").integer("sample_size", 32)
    with torch.device("meta"):
        vae = AutoencoderKL.from_config(fields).eval()
        z = torch.empty(1, vae.config.latent_channels, size, size)
        with FlopCounterMode(display=False) as counter:
            vae.decode(z)
    return float(counter.get_total_flops()) / 2
