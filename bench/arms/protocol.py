"""Protocol: the messages between the benchmark and its worker processes, one JSON line each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True)
class ArmSpec:
    """The arm that a worker runs. ``dtype``: auto, float32 or bfloat16; ``max_rows``: ours only.

    Without ``triton`` the arm runs as where Triton is not installed.
    """

    arm: Literal["ours", "pipeline", "plain", "matmul", "count"]
    model: str
    device: str
    dtype: str = "auto"
    max_rows: int | None = None
    compiled: bool = False
    triton: bool = True


@dataclass(frozen=True, slots=True)
class Ready:
    """The arm is loaded, compiled and warmed up, which took ``seconds``."""

    seconds: float
    dtype: str
    threads: int


@dataclass(frozen=True, slots=True)
class Draw:
    """Draw these images together, from noise to pixels on the host.

    ``sampler``: ddim or dpmpp_2m; without one, ours samples as its default quality has it.
    """

    labels: tuple[int, ...]
    seeds: tuple[int, ...]
    steps: int
    cfg_scale: float
    latents: bool = False
    sampler: Literal["ddim", "dpmpp_2m"] | None = "ddim"


@dataclass(frozen=True, slots=True)
class Probe:
    """Time the arm's own kind of work at a size; the mean of several runs.

    ours: a denoising step of ``size`` rows, guided if that is even; with ``kernels``, ``values`` is how
    many it runs on a GPU, or empty if they cannot be counted; plain: the forward pass alone;
    matmul: a product of square matrices, ``values`` is its FLOP/s; count: nothing is timed, ``values``
    are the multiply-accumulates of one row and of decoding one image.
    """

    size: int
    kernels: bool = False


Task = Draw | Probe


@dataclass(frozen=True, slots=True)
class Answer:
    """``seconds``: duration of the task; ``values``: the numbers asked for, in order."""

    seconds: float
    values: list[float] = field(default_factory=list)


ARM_SPEC = TypeAdapter(ArmSpec)
READY = TypeAdapter(Ready)
TASK: TypeAdapter[Task] = TypeAdapter(Task)
ANSWER = TypeAdapter(Answer)
