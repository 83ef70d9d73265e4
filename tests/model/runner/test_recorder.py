"""Recorder: the ticks it records, and the attention it records them with."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch.nn.attention import SDPBackend

from model.networks.dit import DiT
from model.runner import recorder
from model.runner.recorder import Recorder
from model.runner.tick import Tick
from tests.support.networks import tiny


class NotedTick:
    """Notes the row counts it is recorded at, and the kernels of attention allowed then."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.math: set[bool] = set()
        self.flash: set[bool] = set()

    def record(self, rows: int) -> None:
        self.rows.append(rows)
        self.math.add(torch._C._get_math_sdp_enabled())
        self.flash.add(torch._C._get_flash_sdp_enabled())


Shapes = list[tuple[int, ...]]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Shapes:
    """The shapes whose attention was measured; the plain formula always wins."""
    shapes: Shapes = []

    def choose(shape: tuple[int, ...], *, report: Callable[[str], None], **_: object) -> SDPBackend:
        shapes.append(shape)
        report("a backend is wrong")
        return SDPBackend.MATH

    monkeypatch.setattr(recorder, "fastest_backend", choose)
    return shapes


def record(dit: DiT, *, reproducible: bool) -> tuple[NotedTick, list[str]]:
    tick, lines = NotedTick(), list[str]()
    Recorder(cast("Tick", tick), dit, reproducible=reproducible).record([1, 2, 8], lines.append)
    return tick, lines


def test_ticks_are_recorded_with_the_attention_that_is_fastest_at_most_rows(
    measured: Shapes,
) -> None:
    tick, lines = record(tiny(), reproducible=False)
    assert measured == [(8, 4, 16, 16)]
    assert tick.rows == [8, 2, 1]
    assert (tick.math, tick.flash) == ({True}, {False})
    assert lines == ["a backend is wrong", *[f"recording the tick of {n} rows" for n in (8, 2, 1)]]


def test_reproducible_ticks_do_not_depend_on_a_measurement(measured: Shapes) -> None:
    tick, _ = record(tiny(), reproducible=True)
    assert measured == []
    assert (tick.math, tick.flash) == ({True}, {True})
