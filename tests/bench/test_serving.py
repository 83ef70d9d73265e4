"""The serving suite: its clients keep the ticks of the server full."""

from __future__ import annotations

from bench.options import Options
from bench.suites.serving import Serving
from service.load_model import MAX_ROWS


def test_clients_on_cuda_need_more_rows_than_a_tick_has() -> None:
    """So that a tick is full although some clients wait for the decoder or HTTP."""
    planned = Serving.planned(Options(device="cuda"))
    assert 2 * planned.clients >= 1.5 * MAX_ROWS["cuda"]
    assert planned.images % planned.clients == planned.lit_images % planned.clients == 0


def test_clients_on_a_cpu_are_unchanged() -> None:
    assert Serving.planned(Options(device="cpu")).clients == 32
    assert Serving.planned(Options(device="cuda", quick=True)).clients == 4
