"""Protocol: the messages between the benchmark and its worker processes, one JSON line each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Discriminator, TypeAdapter


@dataclass(frozen=True, slots=True)
class ArmSpec:
    """The arm that a worker runs. ``dtype``: auto, float32 or bfloat16; ``max_rows``: ours only."""

    arm: Literal["ours", "pipeline", "plain", "matmul", "count"]
    model: str
    device: str
    dtype: str = "auto"
    max_rows: int | None = None
    compiled: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """The arm is loaded, compiled and warmed up, which took ``seconds``."""

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
    """One denoising step of ``rows`` rows, guided if that is even; the mean of several runs."""

    rows: int
    kind: Literal["forward"] = "forward"


@dataclass(frozen=True, slots=True)
class Product:
    """A product of two square matrices; ``values`` is its FLOP/s."""

    size: int
    kind: Literal["product"] = "product"


@dataclass(frozen=True, slots=True)
class Count:
    """Multiply-accumulates of one forward row and of decoding one image."""

    kind: Literal["count"] = "count"


Task = Draw | Forward | Product | Count


@dataclass(frozen=True, slots=True)
class Answer:
    """``seconds``: duration of the task; ``values``: the numbers asked for, in order."""

    seconds: float
    values: list[float] = field(default_factory=list)


ARM_SPEC = TypeAdapter(ArmSpec)
READY = TypeAdapter(Ready)
TASK: TypeAdapter[Task] = TypeAdapter(Annotated[Task, Discriminator("kind")])
ANSWER = TypeAdapter(Answer)
