"""Models: the folders that every arm loads, in the layout of diffusers' DiTPipeline."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import model
from bench.options import BUNDLED, ROOT, Options

XL_TICK = "xl-256-tick"
"""DiT-XL/2 with a small autoencoder, for measurements that decode nothing."""


def model_folder(name: str, options: Options) -> str:
    """The model's folder; random weights are written the first time."""
    if name == BUNDLED:
        return str(Path(model.__file__).parent / "bundled")
    folder = options.work / "models" / name
    if not folder.exists():
        print(f"   writing {name} with random weights to {folder}", flush=True)
        unfinished = folder.with_name(name + ".tmp")
        shutil.rmtree(unfinished, ignore_errors=True)
        subprocess.run(
            [sys.executable, "-m", "bench.arms.random_model", name, str(unfinished)],
            check=True,
            cwd=ROOT,
        )
        unfinished.rename(folder)
    return str(folder)
