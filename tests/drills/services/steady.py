"""python -m tests.drills.services.steady: the service with a device of a known speed, whatever the machine's.

Every tick takes `TICK_S`, or as long as DRILL_TICK_S says, with up to `MAX_ROWS` rows; every pass of the
decoder takes as long.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from model.runner.decoding import Decoding
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
    tick_s = float(os.environ.get("DRILL_TICK_S", TICK_S))

    def tick(self, flights: Sequence[Flight]) -> int:
        ends = time.monotonic() + self.tick_s
        rows = super().tick(flights)
        sleep_until(ends)
        return rows

    def start_decode(self, flights: Sequence[Flight]) -> Decoding:
        ends = time.monotonic() + self.tick_s
        decoding = super().start_decode(flights)
        sleep_until(ends)
        return decoding


def sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def load(settings: Settings) -> ModelRunner:
    checkpoint = load_small_checkpoint(Path(settings.model))
    return SteadyRunner(checkpoint, network_of(checkpoint, max_rows=MAX_ROWS), max_rows=MAX_ROWS)


if __name__ == "__main__":
    configure_logs("json")
    sys.exit(serve(read_settings([]), load))
