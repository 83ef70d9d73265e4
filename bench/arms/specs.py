"""Specs: the arms that are compared where images are drawn without HTTP."""

from __future__ import annotations

from bench.arms.models import model_folder
from bench.arms.protocol import ArmSpec, Draw
from bench.load.workload import CFG_SCALE, CLASSES
from bench.options import Options

OURS, OURS_FP32, OURS_COMPILED = "ours", "ours fp32", "ours compiled"
PEER_FP32, PEER_BF16, PEER_COMPILED = "diffusers fp32", "diffusers bf16", "diffusers bf16 compiled"

AGREED = Draw((0, 1), (0, 1), steps=10, cfg_scale=CFG_SCALE, latents=True)


def arms_of(model: str, options: Options, *, max_rows: int | None = None) -> dict[str, ArmSpec]:
    """Ours with the service's defaults, ours in fp32, and diffusers' pipeline in both dtypes."""
    folder, device = model_folder(model, options), options.device
    specs = {
        OURS: ArmSpec("ours", folder, device, "auto", max_rows),
        OURS_FP32: ArmSpec("ours", folder, device, "float32", max_rows),
        PEER_FP32: ArmSpec("pipeline", folder, device, "float32"),
        PEER_BF16: ArmSpec("pipeline", folder, device, "bfloat16"),
    }
    if options.compiled:
        specs[PEER_COMPILED] = ArmSpec("pipeline", folder, device, "bfloat16", compiled=True)
    if options.compiled and options.on_gpu:
        specs[OURS_COMPILED] = ArmSpec("ours", folder, device, "auto", max_rows, compiled=True)
    return specs


def draw_of(images: int, steps: int, *, first: int = 0) -> Draw:
    """Guided images of several classes; their seeds count up from ``first``."""
    seeds = range(first, first + images)
    return Draw(tuple(seed % CLASSES for seed in seeds), tuple(seeds), steps, CFG_SCALE)
