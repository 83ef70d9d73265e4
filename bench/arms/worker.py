"""python -m bench.arms.worker SPEC: one arm; reads tasks from stdin, writes answers to stdout."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, BinaryIO, Protocol

from bench.arms.protocol import ANSWER, ARM_SPEC, READY, TASK, Answer, ArmSpec, Ready, Task
from service.__main__ import THREADS

if TYPE_CHECKING:  # torch reads the environment when it loads
    import torch


class Arm(Protocol):
    """What is measured; ready once it is built."""

    @property
    def dtype(self) -> torch.dtype: ...

    def do(self, task: Task) -> Answer:
        """Do a task and time it."""


def build(spec: ArmSpec) -> Arm:
    """Imports late: no arm loads or configures anything for another."""
    if spec.arm == "ours":
        for name, value in THREADS.items():  # as service/__main__.py does
            os.environ.setdefault(name, value)
    import torch

    if spec.dtype == "float32":  # plain fp32 on GPUs too
        torch.backends.cudnn.allow_tf32 = False
    if spec.arm == "ours":
        from bench.arms.ours import Ours

        return Ours(spec)
    if spec.arm == "pipeline":
        from bench.arms.pipeline import PipelineArm

        return PipelineArm(spec)
    if spec.arm == "plain":
        from bench.arms.plain import Plain

        return Plain(spec)
    if spec.arm == "matmul":
        from bench.arms.matmul import Matmul

        return Matmul(spec)
    from bench.arms.count import Counter

    return Counter(spec)


def main(text: str) -> None:
    answers = _own_stdout()
    began = time.perf_counter()
    arm = build(ARM_SPEC.validate_json(text))
    import torch

    dtype = str(arm.dtype).removeprefix("torch.")
    ready = Ready(time.perf_counter() - began, dtype, torch.get_num_threads())
    _write(answers, READY.dump_json(ready))
    while line := sys.stdin.buffer.readline():
        _write(answers, ANSWER.dump_json(arm.do(TASK.validate_json(line))))


def _own_stdout() -> BinaryIO:
    """The pipe to the benchmark; what libraries print goes to the log, like stderr."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return pipe


def _write(pipe: BinaryIO, line: bytes) -> None:
    pipe.write(line + b"\n")
    pipe.flush()


if __name__ == "__main__":
    main(sys.argv[1])
