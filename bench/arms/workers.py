"""Workers: the processes of the arms without HTTP; one works while the others wait."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.arms.protocol import (
    ANSWER,
    ARM_SPEC,
    READY,
    TASK,
    Answer,
    ArmSpec,
    Draw,
    Probe,
    Ready,
    Task,
)
from bench.load.processes import start_module, stop
from bench.options import Options

LINES_SHOWN = 5


class WorkerDied(RuntimeError):
    """A worker exited before it answered; the message shows the end of its log."""


class Worker:
    """One arm in its own process, blocked on its pipe between tasks."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log
        self.ready: Ready = READY.validate_json(self._read())

    def ask(self, task: Task) -> Answer:
        """Have a task done.

        Raises:
            WorkerDied: the worker exited instead.
        """
        assert self._process.stdin is not None, "this is a bug: the worker has a pipe"
        self._process.stdin.write(TASK.dump_json(task).decode() + "\n")
        self._process.stdin.flush()
        return ANSWER.validate_json(self._read())

    def draw(self, draw: Draw) -> float:
        return self.ask(draw).seconds

    def step(self, rows: int) -> float:
        return self.ask(Probe(rows)).seconds

    def kernels(self, rows: int) -> float | None:
        """The kernels of a step; None if they cannot be counted."""
        counted = self.ask(Probe(rows, kernels=True)).values
        return counted[0] if counted else None

    def peak(self, sizes: Sequence[int]) -> float:
        """The best FLOP/s over square products of these sizes."""
        return max(self.ask(Probe(size)).values[0] for size in sizes)

    def _read(self) -> str:
        assert self._process.stdout is not None, "this is a bug: the worker has a pipe"
        line = self._process.stdout.readline()
        if not line:
            tail = self._log.read_text(errors="replace").splitlines()[-LINES_SHOWN:]
            raise WorkerDied("\n".join([f"the end of {self._log}:", *tail]))
        return line


@contextmanager
def running_worker(name: str, spec: ArmSpec, options: Options) -> Iterator[Worker]:
    """Start an arm and wait until it is ready; stops it at the end of the block."""
    log, text = options.log(name), ARM_SPEC.dump_json(spec).decode()
    with log.open("wb") as errors:
        process = start_module(
            "bench.arms.worker",
            text,
            environment=options.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    try:
        yield Worker(process, log)
    finally:
        stop(process)


@contextmanager
def running_workers(specs: Mapping[str, ArmSpec], options: Options) -> Iterator[dict[str, Worker]]:
    """Start several arms, one after the other."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(running_worker(name, spec, options))
            for name, spec in specs.items()
        }
