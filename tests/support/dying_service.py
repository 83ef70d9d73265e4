"""python -m tests.support.dying_service FOLDER WAY: a service whose engine dies at `BAD_LABEL`."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import torch

from model.runner.runner import ModelRunner
from service.engine.watchdog import Patience
from service.launch import serve
from service.logs import configure_logs
from service.settings import Settings, read_settings
from tests.support.faulty import FaultyNetwork
from tests.support.networks import network_of
from tests.support.services import load_small_checkpoint


def dying_runner(folder: Path, way: str) -> ModelRunner:
    checkpoint = load_small_checkpoint(folder)
    network = network_of(checkpoint, max_rows=8)
    ways = {
        "device lost": FaultyNetwork(
            network, fault=lambda: torch.AcceleratorError("CUDA error: unspecified")
        ),
        "thread killed": FaultyNetwork(network, fault=lambda: SystemExit("enough")),
        "hung": FaultyNetwork(network, first=threading.Event().wait),
    }
    return ModelRunner(checkpoint, ways[way], max_rows=8)


def main(folder: Path, way: str) -> int:
    configure_logs("json")

    def load(_: Settings) -> ModelRunner:
        return dying_runner(folder, way)

    return serve(read_settings([]), load, Patience(hung_s=1.0))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
