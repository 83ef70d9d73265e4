"""Protocol: what the benchmark and its worker processes say to each other, a JSON line each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Discriminator, TypeAdapter


@dataclass(frozen=True, slots=True)
class ArmSpec:
    """Which arm a worker is. ``dtype`` is auto, float32 or bfloat16; ``max_rows`` is ours alone."""

    arm: Literal["ours", "pipeline", "plain", "matmul", "count"]
    model: str
    device: str
    dtype: str = "auto"
    max_rows: int | None = None
    compiled: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """The arm stands; compiling and warming up, which ``seconds`` tells, are over."""

    seconds: float
    dtype: str
    threads: int


@dataclass(frozen=True, slots=True)
class Draw:
    """Draw these images together, from noise to pixels on the host."""

    labels: tuple[int, ...]
    seeds: tuple[int, ...]
    steps: int
    cfg_scale: float
    latents: bool = False
    kind: Literal["draw"] = "draw"


@dataclass(frozen=True, slots=True)
class Forward:
    """One denoising step of ``rows`` rows, guided where their number is even; the mean of a few."""

    rows: int
    kind: Literal["forward"] = "forward"


@dataclass(frozen=True, slots=True)
class Product:
    """A product of two square matrices; ``values`` is FLOP/s."""

    size: int
    kind: Literal["product"] = "product"


@dataclass(frozen=True, slots=True)
class Count:
    """Multiply-accumulates of one forward row and of decoding one image."""

    kind: Literal["count"] = "count"


Task = Draw | Forward | Product | Count


@dataclass(frozen=True, slots=True)
class Answer:
    """``seconds`` is what the task took; ``values`` what it asked to see, in order."""

    seconds: float
    values: list[float] = field(default_factory=list)


ARM_SPEC = TypeAdapter(ArmSpec)
READY = TypeAdapter(Ready)
TASK: TypeAdapter[Task] = TypeAdapter(Annotated[Task, Discriminator("kind")])
ANSWER = TypeAdapter(Answer)
