"""python -m bench.arms.worker SPEC: one arm; reads tasks from stdin, writes answers to stdout."""

from __future__ import annotations

import os
import sys
import time
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from bench.arms.protocol import ANSWER, ARM_SPEC, READY, TASK, Answer, ArmSpec, Ready, Task
from service.threads import configure_openmp

if TYPE_CHECKING:  # torch reads the environment when it loads
    import torch


class Arm(Protocol):
    """What is measured; ready once it is built."""

    @property
    def dtype(self) -> torch.dtype: ...

    def do(self, task: Task) -> Answer:
        """Do a task and time it."""


def build(spec: ArmSpec) -> Arm:
    """Each arm is a module with a class `Arm`; imports late, so that no arm configures another."""
    if spec.arm == "ours":
        configure_openmp()  # as service/__main__.py does
    if not spec.triton:
        sys.modules["triton"] = None  # type: ignore[assignment]  # importing it fails
    import torch

    if spec.dtype == "float32":  # plain fp32 on GPUs too
        torch.backends.cudnn.allow_tf32 = False
    arm: Arm = import_module(f"bench.arms.{spec.arm}").Arm(spec)
    return arm


def main(text: str) -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print goes to the log, like stderr
    began = time.perf_counter()
    arm = build(ARM_SPEC.validate_json(text))
    import torch

    dtype = str(arm.dtype).removeprefix("torch.")
    line = READY.dump_json(Ready(time.perf_counter() - began, dtype, torch.get_num_threads()))
    while True:
        answers.write(line + b"\n")
        answers.flush()
        if not (asked := sys.stdin.readline()):
            return
        line = ANSWER.dump_json(arm.do(TASK.validate_json(asked)))


if __name__ == "__main__":
    main(sys.argv[1])
