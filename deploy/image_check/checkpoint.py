"""A checkpoint as its owner would mount it: the bundled model, in the files of a training script."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file

BUNDLED = Path(__file__).parents[2] / "model" / "bundled"
NAMES = ("my first class", "my second class")
"""Of its first two classes; the others are numbered."""


def write_checkpoint(folder: Path) -> dict[str, str]:
    """Write weights, autoencoder and names; the settings that serve them from /models."""
    transformer = BUNDLED / "transformer"
    folder.mkdir(parents=True)
    weights = load_file(transformer / "diffusion_pytorch_model.safetensors")
    torch.save({"ema": weights, "epoch": 7}, folder / "my-dit.pt")
    shutil.copy(transformer / "config.json", folder)
    shutil.copytree(BUNDLED / "vae", folder / "vae")
    count = json.loads((folder / "config.json").read_text())["num_embeds_ada_norm"]
    names = [*NAMES, *(f"class {i}" for i in range(len(NAMES), count))]
    (folder / "names.json").write_text(json.dumps(names))
    return {
        "DIT_MODEL": "/models/my-dit.pt",
        "DIT_VAE": "/models/vae",
        "DIT_CLASSES": "/models/names.json",
    }
