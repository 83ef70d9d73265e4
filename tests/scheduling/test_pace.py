"""Pace: estimates of how long ticks take."""

from __future__ import annotations

import pytest

from model.runner.runner import TickTimes
from service.scheduling.pace import Pace


def test_pace_starts_from_the_warm_up_and_follows_observed_ticks() -> None:
    pace = Pace(TickTimes(one_row=0.11, full=0.2), max_rows=10)
    assert pace.tick_seconds(1) == pytest.approx(0.11)
    assert pace.tick_seconds(10) == pytest.approx(0.2)
    assert pace.seconds_for(100) == pytest.approx(2.0)
    for _ in range(200):
        pace.observe(5, 0.3)  # twice as long as the warm-up suggests
    assert pace.tick_seconds(10) == pytest.approx(0.4, rel=0.01)


def test_one_long_pause_hardly_changes_the_pace() -> None:
    pace = Pace(TickTimes(one_row=0.1, full=0.1), max_rows=10)
    pace.observe(5, 600.0)
    assert pace.tick_seconds(1) < 0.2


def test_the_padding_of_a_small_tick_does_not_change_the_pace() -> None:
    """In passes of 16 rows, one row takes as long as 16, and 128 take eight times as long."""
    pace = Pace(TickTimes(one_row=0.01, full=0.08, least_rows=16), max_rows=128)
    for rows, seconds in ((16, 0.01), (128, 0.08)):
        for _ in range(200):
            pace.observe(rows, seconds)
        assert pace.tick_seconds(1) == pytest.approx(0.01, rel=0.01)
        assert pace.tick_seconds(16) == pytest.approx(0.01, rel=0.01)
        assert pace.longest_tick_s == pytest.approx(0.08, rel=0.01)


def test_a_full_tick_of_the_least_rows_always_takes_the_same_time() -> None:
    pace = Pace(TickTimes(one_row=0.01, full=0.01, least_rows=12), max_rows=12)
    assert pace.tick_seconds(1) == pace.longest_tick_s == pytest.approx(0.01)
