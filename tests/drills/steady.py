"""python -m tests.drills.steady: the service with a device of a known speed, whatever the machine's.

Every tick takes `TICK_S` with up to `MAX_ROWS` rows.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from model.runner.runner import Flight, ModelRunner
from service.launch import serve
from service.logs import configure_logs
from service.settings import Settings, read_settings
from tests.support.networks import network_of
from tests.support.services import load_small_checkpoint

TICK_S = 0.04
MAX_ROWS = 16
ROW_STEPS_PER_S = MAX_ROWS / TICK_S


class SteadyRunner(ModelRunner):
    def tick(self, flights: Sequence[Flight]) -> int:
        ends = time.monotonic() + TICK_S
        rows = super().tick(flights)
        time.sleep(max(0.0, ends - time.monotonic()))
        return rows


def load(settings: Settings) -> ModelRunner:
    checkpoint = load_small_checkpoint(Path(settings.model))
    return SteadyRunner(checkpoint, network_of(checkpoint, max_rows=MAX_ROWS), max_rows=MAX_ROWS)


if __name__ == "__main__":
    configure_logs("json")
    sys.exit(serve(read_settings([]), load))
