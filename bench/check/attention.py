"""Attention: every kernel of torch's scaled_dot_product_attention, its error and its time."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.arms.models import model_folder
from bench.arms.timing import mean_seconds
from bench.options import BUNDLED, Options
from bench.report.figures import Cell, Measured, Spread, Table
from model.weights.config_files import JsonFile

BACKENDS = (
    SDPBackend.MATH,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.CUDNN_ATTENTION,
)
WRONG = 0.02
"""Of the largest value: bfloat16 rounds to 0.004 of a value."""

NOTE = (
    "q, k and v have the strides that the model gives them: views of one product (N, T, 3, heads, d)."
    " The error is the largest difference from MATH in fp32, over its largest value."
)


@dataclass(frozen=True, slots=True)
class Attention:
    """Whether each kernel is right on this host, and how fast it is."""

    shapes: tuple[tuple[int, int, int, int], ...]

    @classmethod
    def planned(cls, options: Options) -> Attention:
        """DiT-XL/2 at 256 pixels, and the bundled model; (N, heads, T, head_dim)."""
        rows = options.pick(128, 2)
        return cls(((rows, 16, 256, 72), (rows, *heads_of(model_folder(BUNDLED, options)))))

    @torch.inference_mode()
    def run(self, options: Options) -> Measured:
        device = torch.device(options.device)
        figures: dict[str, Spread] = {}
        tables = []
        for shape in self.shapes:
            q, k, v = inputs(shape, device)
            rows = tuple(_row(backend, q, k, v) for backend in BACKENDS)
            figures |= {
                f"{'x'.join(map(str, shape))}.{name}": Spread((ms,))
                for name, ms, *_ in rows
                if isinstance(ms, float)
            }
            header = ("kernel", "ms", "error", "verdict")
            tables.append(Table(f"(N, heads, T, d) = {shape}, bfloat16", header, rows))
        return Measured(figures, tuple(tables), (NOTE,))


def heads_of(folder: str) -> tuple[int, int, int]:
    """Heads, tokens and head width of a DiTPipeline folder's transformer."""
    config = JsonFile.read(Path(folder) / "transformer" / "config.json")
    side = config.integer("sample_size", 32) // config.integer("patch_size", 2)
    return (
        config.integer("num_attention_heads", 16),
        side**2,
        config.integer("attention_head_dim", 72),
    )


def inputs(shape: tuple[int, int, int, int], device: torch.device) -> tuple[Tensor, ...]:
    """Random q, k and v (N, heads, T, d) as views of one bfloat16 tensor."""
    N, heads, T, width = shape
    qkv = torch.randn((N, T, 3, heads, width), generator=torch.Generator().manual_seed(0))
    return qkv.to(device, torch.bfloat16).permute(2, 0, 3, 1, 4).unbind(0)


def _row(backend: SDPBackend, q: Tensor, k: Tensor, v: Tensor) -> tuple[Cell, ...]:
    """Name, milliseconds, error and verdict; the verdict on a kernel that does not run is why."""
    with sdpa_kernel(SDPBackend.MATH):
        expected = F.scaled_dot_product_attention(q.float(), k.float(), v.float())
    with warnings.catch_warnings(record=True) as reasons, sdpa_kernel(backend):
        warnings.simplefilter("always")
        try:
            error = relative_error(F.scaled_dot_product_attention(q, k, v), expected)
            seconds = mean_seconds(lambda: F.scaled_dot_product_attention(q, k, v), q.device)
        except RuntimeError as problem:  # no such kernel for this shape, or out of memory
            texts = [str(each.message) for each in reasons]
            return backend.name, None, None, why_not(texts, str(problem))
    return backend.name, 1e3 * seconds, error, "ok" if error <= WRONG else "WRONG"


def relative_error(found: Tensor, expected: Tensor) -> float:
    """The largest difference over the largest value; infinite if a value is not finite."""
    error = float((found.float() - expected).abs().max() / expected.abs().max())
    return error if math.isfinite(error) else math.inf


def why_not(texts: Sequence[str], problem: str) -> str:
    """Torch's own reasons in one line, from its warnings; else the error's first line.

    It warns about the kernels that were switched off too, and with a heading for each kernel.
    """
    plain = [text.partition(" (Triggered")[0].partition("\n")[0].strip() for text in texts]
    reasons = [each for each in plain if "runtime disabled" not in each and each[-1:] != ":"]
    return "; ".join(dict.fromkeys(reasons)) or problem.partition("\n")[0]
