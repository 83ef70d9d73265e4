"""python -m bench.check [STEP...]: check this GPU host, write bench/results and print short tables."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from bench.check.attention import Attention
from bench.check.gpu_tests import GpuTests
from bench.check.host import Host
from bench.check.loaded import Loaded
from bench.check.one_image import one_image
from bench.check.ticks import Ticks
from bench.measure import measure
from bench.options import RESULTS, WORK, Options
from bench.report.figures import write_result
from bench.report.markdown import of_table
from bench.suites.catalogue import Suite

STEPS: dict[str, Callable[[Options], Suite]] = {
    "device": Host.planned,
    "tests": GpuTests.planned,
    "sdpa": Attention.planned,
    "tick": Ticks.planned,
    "alone": one_image,
    "serving": Loaded.planned,
}
FAILED = "failed"
"""The figure of a step that counts what is wrong; above 0 the check fails."""


def main(arguments: list[str]) -> int:
    """Run the steps; returns the process's exit code: 1 if one failed or there is no GPU."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwind, so that workers are stopped
    given = _parser().parse_args(arguments)
    if given.device == "cuda" and (problem := missing_gpu()):
        print(f"gpu-check: {problem}", file=sys.stderr)
        return 1
    options = _options(given)
    failed = [name for name in given.steps or STEPS if not passes(name, options)]
    if failed:
        print(f"gpu-check: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def missing_gpu() -> str | None:
    """Why there is no GPU to check; None if there is one."""
    if torch.cuda.is_available():
        return None
    cuda = torch.version.cuda
    built = "built without CUDA" if cuda is None else f"built for CUDA {cuda}"
    return f"no GPU: torch {torch.__version__}, {built}, sees none"


def passes(name: str, options: Options) -> bool:
    """Run one step, write its result and print its tables; False if it failed."""
    print(f"== {name}", flush=True)
    command = ["make", "gpu-check", f"STEP={name}"]
    try:
        result = measure(f"check-{name}", STEPS[name](options), options, command)
    except Exception as error:  # noqa: BLE001 (the other steps may still work)
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return False
    path = write_result(result, options.results)
    for table in result.measured.tables:
        print(f"\n{of_table(table)}\n")
    print(f"{path}, {result.facts.minutes:.1f} minutes", flush=True)
    failures = result.measured.figures.get(FAILED)
    return failures is None or failures.median == 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.check", description=(__doc__ or "").strip()
    )
    listed = f"{', '.join(STEPS)}; default: all"
    parser.add_argument("steps", nargs="*", choices=[*STEPS, []], metavar="STEP", help=listed)
    # On a CPU a tiny model, to try the check itself: tests/bench/test_gpu_check.py.
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for weights and logs")
    return parser


def _options(given: argparse.Namespace) -> Options:
    on_gpu = given.device == "cuda"
    return Options(
        device=given.device,
        quick=not on_gpu,
        model=None if on_gpu else "tiny",
        threads=None if on_gpu else 1,
        results=given.out,
        work=given.work.resolve(),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
