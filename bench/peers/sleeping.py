"""python -m bench.peers.sleeping CURVE: our service, with a device that sleeps as long as a tick takes.

Everything but the model is the service's own: HTTP, admission, scheduler, engine and files. Pictures are black.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import torch

from bench.simulate.curve import TickCurve, read_curve
from model.runner.decoding import Decoding
from model.runner.flight import Flight
from model.runner.runner import ModelRunner
from model.runner.tick_log import FinishedTick
from model.runner.warm_up import TickTimes
from model.sampling.noise import ImageNoise
from model.sampling.trajectory import Trajectory
from model.weights.checkpoint import Checkpoint, load_checkpoint
from service.settings import Settings, read_settings
from service.threads import configure_openmp

PIXELS = 64
HIDDEN_S = 0.01
"""The host's work between two ticks that costs no time: on CUDA a tick is launched while another runs."""


class SleepingRunner(ModelRunner):
    """Has no buffers, and its ticks and decodes take what the curve says."""

    def __init__(self, checkpoint: Checkpoint, curve: TickCurve) -> None:
        self.checkpoint = checkpoint
        self.max_rows = self.slots = curve.max_rows
        self._curve = curve
        self._finished: list[FinishedTick] = []
        self._free = 0.0

    def join(self, trajectory: Trajectory) -> Flight:
        return Flight(trajectory, 0, ImageNoise(trajectory.seed, (0,)))

    def leave(self, flight: Flight) -> None:
        """There is no slot."""

    def tick(self, flights: Sequence[Flight]) -> int:
        rows = sum(flight.rows for flight in flights)
        seconds = self._curve.seconds(rows)
        self._sleep(seconds)
        self._finished.append(FinishedTick(rows, seconds))
        for flight in flights:
            flight.advance()
        return rows

    def wait_for_room(self) -> None:
        """A tick is over when it returns."""

    def finished_ticks(self) -> list[FinishedTick]:
        finished, self._finished = self._finished, []
        return finished

    @property
    def decoded_at_once(self) -> int:
        return 1

    def start_decode(self, flights: Sequence[Flight]) -> Decoding:
        self._sleep(self._curve.decode_s * len(flights))
        images = torch.zeros(len(flights), PIXELS, PIXELS, 3, dtype=torch.uint8)
        return Decoding(images, torch.ones(len(flights), dtype=torch.bool), None)

    def warm_up(self, report: Callable[[str], None]) -> TickTimes:
        return self._curve.times

    def _sleep(self, seconds: float) -> None:
        now = time.monotonic()
        began = self._free if now - self._free < HIDDEN_S else now
        self._free = began + seconds
        time.sleep(max(0.0, self._free - now))

    def memory_bytes(self) -> dict[str, int]:
        return {}


def main(arguments: Sequence[str]) -> int:
    configure_openmp()
    from service.launch import serve

    curve = read_curve(arguments[0])

    def load(settings: Settings) -> ModelRunner:
        device = torch.device("cpu")
        return SleepingRunner(
            load_checkpoint(settings.model, device=device, dtype=torch.float32), curve
        )

    return serve(read_settings([]), load=load)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
