"""Pace: estimates of how long ticks take."""

from __future__ import annotations

import pytest

from model.runner.runner import TickTimes
from service.scheduling.pace import RECENT_TICKS, SURE_DECODES, SURE_TICKS, Pace


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


def observed(pace: Pace, seconds: float, ticks: int) -> None:
    for _ in range(ticks):
        pace.observe(1, seconds)


def test_a_lower_bound_is_sure_after_a_few_ticks() -> None:
    """The warm-up may have been disturbed, and so may a single tick."""
    pace = Pace(TickTimes(one_row=10.0, full=10.0), max_rows=10)
    observed(pace, 0.1, SURE_TICKS - 1)
    assert not pace.sure
    observed(pace, 0.1, 1)
    assert pace.sure
    assert pace.least_seconds(50, 1) == pace.best_seconds(50, 1) == pytest.approx(5.0)


def test_a_lower_bound_goes_by_the_fastest_recent_tick() -> None:
    pace = Pace(TickTimes(one_row=0.1, full=0.1), max_rows=10)
    observed(pace, 0.1, 1)
    observed(pace, 1.0, RECENT_TICKS - 1)
    assert pace.least_seconds(10, 0) == pytest.approx(1.0)
    observed(pace, 1.0, 1)  # now all of them were slow
    assert pace.least_seconds(10, 0) == pytest.approx(10.0)
    observed(pace, 0.1, 1)  # the slow spell is over
    assert pace.least_seconds(10, 0) == pytest.approx(1.0)


def test_what_was_measured_before_the_device_was_idle_is_not_sure() -> None:
    pace = Pace(TickTimes(one_row=0.1, full=0.1), max_rows=10)
    observed(pace, 1.0, 2 * RECENT_TICKS)
    pace.rest()
    assert not pace.sure
    observed(pace, 0.1, SURE_TICKS)
    assert pace.least_seconds(10, 0) == pytest.approx(1.0)


def test_decodes_count_once_a_few_are_measured() -> None:
    pace = Pace(TickTimes(one_row=0.1, full=0.1), max_rows=10)
    observed(pace, 0.1, SURE_TICKS)
    for _ in range(SURE_DECODES - 1):
        pace.observe_decode(2, 20.0)
    assert pace.least_seconds(10, 1) == pytest.approx(1.0)
    pace.observe_decode(1, 11.0)
    assert pace.least_seconds(10, 1) == pytest.approx(1.0 + 10.0)
    assert pace.least_seconds(10, 4) == pytest.approx(4 * 10.0)  # the first decodes next to ticks
    assert pace.longest_stretch_s == pytest.approx(10.0)


def test_a_decode_counts_as_the_row_steps_that_take_as_long() -> None:
    pace = Pace(TickTimes(one_row=0.1, full=0.4, decode=0.2), max_rows=32)
    assert pace.decode_row_steps == 16
    observed(pace, 10.0, 1000)  # a slow device decodes slowly as well
    assert pace.decode_row_steps == 16
    assert Pace(TickTimes(one_row=0.1, full=0.4), max_rows=32).decode_row_steps == 0


def test_one_long_decode_hardly_changes_the_pace() -> None:
    pace = Pace(TickTimes(one_row=0.1, full=0.1), max_rows=10)
    for seconds in (0.1, 600.0, 0.1):
        pace.observe_decode(1, seconds)
    assert pace.decode_seconds == pytest.approx(0.1)


def test_the_fewest_rows_of_an_efficient_tick_follow_from_its_fixed_part() -> None:
    """A tick of r rows takes 1 + r seconds: 4 rows do 0.9 of the rows per second of 8, 3 do 0.84."""
    assert Pace(TickTimes(one_row=2.0, full=9.0), max_rows=8).rows_at(0.85) == 4
    assert Pace(TickTimes(one_row=1.0, full=8.0), max_rows=8).rows_at(0.85) == 1
    assert Pace(TickTimes(one_row=9.0, full=9.0), max_rows=8).rows_at(0.85) == 7
    assert Pace(TickTimes(one_row=9.0, full=9.0), max_rows=8).rows_at(1.0) == 8
