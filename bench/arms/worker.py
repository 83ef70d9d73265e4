"""python -m bench.arms.worker SPEC: one arm; tasks come in on stdin and answers leave on stdout."""

from __future__ import annotations

import os
import sys
import time
from typing import BinaryIO, Protocol

from bench.arms.protocol import ANSWER, ARM_SPEC, READY, TASK, Answer, ArmSpec, Ready, Task
from service.threads import OPENMP


class Arm(Protocol):
    """What is measured, ready to work once it is built."""

    @property
    def dtype(self) -> str: ...

    def do(self, task: Task) -> Answer:
        """Do a task and tell what it took."""


def build(spec: ArmSpec) -> Arm:
    """Import late: what an arm loads and sets is its own."""
    if spec.arm == "ours":
        for name, value in OPENMP.items():  # before torch loads, as in service/__main__.py
            os.environ.setdefault(name, value)
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

    ready = Ready(time.perf_counter() - began, arm.dtype, torch.get_num_threads())
    _say(answers, READY.dump_json(ready))
    while line := sys.stdin.buffer.readline():
        _say(answers, ANSWER.dump_json(arm.do(TASK.validate_json(line))))


def _own_stdout() -> BinaryIO:
    """The pipe to the benchmark; what libraries print goes to the log with stderr."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return pipe


def _say(pipe: BinaryIO, line: bytes) -> None:
    pipe.write(line + b"\n")
    pipe.flush()


if __name__ == "__main__":
    main(sys.argv[1])
