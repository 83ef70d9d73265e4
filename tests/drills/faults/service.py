"""python -m tests.drills.faults.service FOLDER ORDERS: a service whose model fails as a file says.

The file ORDERS names the `Fault` of the forward passes with an image of `BAD_LABEL`, or is empty. With
"little memory" all passes of more than two rows fail, whatever their images.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from model.backends.network import Network
from model.runner.runner import ModelRunner
from model.weights import checkpoint
from model.weights.weight_files import load_state
from service.engine.watchdog import Patience
from service.launch import serve
from service.logs import configure_logs
from service.settings import Settings, read_settings
from tests.support.faulty import BAD_LABEL
from tests.support.networks import WrappedNetwork, network_of
from tests.support.services import load_small_checkpoint

Fault = Literal[
    "step fails",
    "not finite",
    "out of memory",
    "little memory",
    "hangs for a while",
    "hangs",
    "thread ends",
    "device lost",
]
FAULTS: tuple[Fault, ...] = get_args(Fault)

PATIENCE = Patience(stale_s=1.0, hung_s=10.0, late_s=0.5)
HANG_S = 4.0
"""Between the two: not ready, but not given up."""

MAX_ROWS = 8
LITTLE_ROWS = 2
SHRINK = "DRILL_SHRINK"
"""Set to a path: that file loses its second half while it is read."""


def unspecified_failure() -> BaseException:
    return torch.AcceleratorError("CUDA error: unspecified launch failure")


ERRORS: dict[Fault, Callable[[], BaseException]] = {
    "step fails": lambda: RuntimeError("injected"),
    "out of memory": lambda: torch.OutOfMemoryError("injected"),
    "thread ends": lambda: SystemExit("enough"),
    "device lost": unspecified_failure,
}


class OrderedNetwork(WrappedNetwork):
    """A network that fails as the file says.

    Args:
        network: computes what does not.
        orders: the file.
    """

    def __init__(self, network: Network, orders: Path) -> None:
        super().__init__(network)
        self._orders = orders

    def __call__(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        fault, bad = self._fault(), y == BAD_LABEL
        if fault == "little memory" and len(x) > LITTLE_ROWS:
            raise torch.OutOfMemoryError(f"{len(x)} rows, injected")
        if fault is None or not bad.any():
            return self._network(x, t, y)
        if fault in ERRORS:
            raise ERRORS[fault]()
        if fault == "hangs":
            threading.Event().wait()
        if fault == "hangs for a while":
            self._orders.write_text("", encoding="utf-8")
            time.sleep(HANG_S)
        output = self._network(x, t, y).clone()
        if fault == "not finite":
            output[bad] = float("nan")
        return output

    def _fault(self) -> Fault | None:
        text = self._orders.read_text(encoding="utf-8")
        return next((each for each in FAULTS if each == text), None)


def shrinking(load: Callable[..., None], path: Path) -> Callable[..., None]:
    """Loading of weights, where the file loses its second half after it was mapped."""

    def load_from_less(*given: object, **named: object) -> None:
        os.truncate(path, path.stat().st_size // 2)
        load(*given, **named)

    return load_from_less


def main(folder: Path, orders: Path) -> int:
    configure_logs("json")
    if SHRINK in os.environ:
        load_less = shrinking(load_state, Path(os.environ[SHRINK]))
        setattr(checkpoint, "load_state", load_less)  # noqa: B010 - mypy: not its own name

    def load(_: Settings) -> ModelRunner:
        small = load_small_checkpoint(folder)
        ordered = OrderedNetwork(network_of(small, independent=True), orders)
        return ModelRunner(small, ordered, max_rows=MAX_ROWS, reproducible=True)

    return serve(read_settings([]), load, PATIENCE)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
