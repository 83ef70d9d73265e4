"""Arms: which worker processes stand beside each other where images are drawn without HTTP."""

from __future__ import annotations

from bench.arms.protocol import ArmSpec, Draw
from bench.models.folders import model_folder
from bench.options import Options

OURS, OURS_FP32, OURS_COMPILED = "ours", "ours fp32", "ours compiled"
PEER_FP32, PEER_BF16, PEER_COMPILED = "diffusers fp32", "diffusers bf16", "diffusers bf16 compiled"

CFG_SCALE = 2.0
CLASSES = 10
"""Classes that are asked for: every model has that many."""

AGREED = Draw((0, 1), (0, 1), steps=10, cfg_scale=CFG_SCALE, latents=True)


def arms_of(model: str, options: Options, *, max_rows: int | None = None) -> dict[str, ArmSpec]:
    """Ours as the service sets itself up, ours in fp32, and diffusers' pipeline in both dtypes."""
    folder, device = model_folder(model, options), options.device
    specs = {
        OURS: ArmSpec("ours", folder, device, "auto", max_rows),
        OURS_FP32: ArmSpec("ours", folder, device, "float32", max_rows),
        PEER_FP32: ArmSpec("pipeline", folder, device, "float32"),
        PEER_BF16: ArmSpec("pipeline", folder, device, "bfloat16"),
    }
    if options.compiled:
        peer = ArmSpec("pipeline", folder, device, "bfloat16", compiled=True)
        specs |= {PEER_COMPILED: peer}
    if options.compiled and options.on_gpu:
        ours = ArmSpec("ours", folder, device, "auto", max_rows, compiled=True)
        specs |= {OURS_COMPILED: ours}
    return specs


def draw_of(images: int, steps: int, *, first: int = 0) -> Draw:
    """So many images of several classes, under guidance; the numbers from ``first`` on."""
    numbers = range(first, first + images)
    return Draw(tuple(i % CLASSES for i in numbers), tuple(numbers), steps, CFG_SCALE)
