"""Agreement: a check, before anything is timed, that all arms compute the same latents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

from bench.arms.protocol import Answer, Draw, Ready, Task
from bench.report.figures import Table

FP32_LIMIT = 1e-4
BF16_LIMIT = 0.5
"""Says nothing about quality: arms beyond it draw different pictures and cannot be compared."""


class ArmsDisagree(RuntimeError):
    """The arms do not compute the same thing, so a comparison of their speeds is meaningless."""


class Drawing(Protocol):
    """An arm that draws images, as a `Worker` does."""

    @property
    def ready(self) -> Ready: ...

    def ask(self, task: Task) -> Answer: ...


def agreement(workers: Mapping[str, Drawing], reference: str, draw: Draw) -> Table:
    """The relative error of each arm's latents against those of ``reference``, an fp32 arm.

    Raises:
        ArmsDisagree: an fp32 arm is off by more than 1e-4, or a bf16 arm by more than 0.5.
    """
    latents = {name: worker.ask(draw).values for name, worker in workers.items()}
    errors = {name: relative_error(found, latents[reference]) for name, found in latents.items()}
    for name, error in errors.items():
        limit = FP32_LIMIT if workers[name].ready.dtype == "float32" else BF16_LIMIT
        if not error <= limit:
            raise ArmsDisagree(f"{name} is off by {error:.1e} from {reference}, {limit:g} allowed")
    rows = tuple((name, workers[name].ready.dtype, f"{e:.1e}") for name, e in errors.items())
    title = f"Final latents against {reference}: {len(draw.labels)} images, {draw.steps} steps"
    return Table(title, ("arm", "dtype", "relative error"), rows)


def relative_error(found: list[float], expected: list[float]) -> float:
    """|found - expected| / |expected|, in the Euclidean norm over all values."""
    return math.dist(found, expected) / math.hypot(*expected)
