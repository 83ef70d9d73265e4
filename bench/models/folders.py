"""Models: the folders that every arm loads, in diffusers' DiTPipeline layout."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import model
from bench.options import ROOT, Options

BUNDLED = "bundled"
XL_256, XL_512 = "xl-256", "xl-512"
XL_TICK = "xl-256-tick"
"""DiT-XL/2 with a small autoencoder: for what decodes nothing."""


def model_folder(name: str, options: Options) -> str:
    """Where the model lies; one with random weights is made first, once."""
    if name == BUNDLED:
        return str(Path(model.__file__).parent / "bundled")
    folder = options.work / "models" / name
    if not folder.exists():
        print(f"   making {name} with random weights in {folder}", flush=True)
        unfinished = folder.with_name(name + ".tmp")
        shutil.rmtree(unfinished, ignore_errors=True)
        subprocess.run(
            [sys.executable, "-m", "bench.models.random_model", name, str(unfinished)],
            check=True,
            cwd=ROOT,
        )
        unfinished.rename(folder)
    return str(folder)
