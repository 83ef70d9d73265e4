"""Heartbeat: what counts as silence, and the longest stretch between two beats."""

from __future__ import annotations

import pytest

from service.engine.heartbeat import Heartbeat
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def heart(clock: Clock) -> Heartbeat:
    heart = Heartbeat(clock)
    heart.start()
    return heart


def watch(heart: Heartbeat, clock: Clock, seconds: int, *, overslept_s: float = 0.0) -> None:
    """The watch takes naps of a second, each of which lasts longer than it should."""
    for _ in range(seconds):
        heart.nap(1.0)
        clock.now += 1.0 + overslept_s


def test_silence_grows_while_the_watch_is_awake_and_a_beat_ends_it(
    heart: Heartbeat, clock: Clock
) -> None:
    watch(heart, clock, 60)
    assert heart.silence_s == 60.0
    heart.beat()
    assert heart.silence_s == 0.0
    heart.nap(1.0)
    clock.now += 0.25
    assert heart.silence_s == 0.25


@pytest.mark.parametrize("stopped_s", [1.0, 62.0, 1e6])
def test_what_the_watch_oversleeps_is_not_silence(
    heart: Heartbeat, clock: Clock, stopped_s: float
) -> None:
    watch(heart, clock, 3, overslept_s=stopped_s)
    assert heart.silence_s == 3.0
    heart.beat()
    assert heart.longest_s == 3.0


def test_the_start_does_not_count_as_a_stretch(clock: Clock) -> None:
    heart = Heartbeat(clock)
    clock.now += 300.0  # loading
    heart.start()
    clock.now += 2.0
    heart.beat()
    assert heart.longest_s == 2.0


def test_the_longest_stretch_lasts_for_a_while_and_an_exception_is_forgotten(
    heart: Heartbeat, clock: Clock
) -> None:
    for stretch in (40.0, 0.1, 0.1):
        clock.now += stretch
        heart.beat()
    assert heart.longest_s == pytest.approx(40.0, rel=0.05)
    for _ in range(1000):
        clock.now += 0.1
        heart.beat()
    assert heart.longest_s == pytest.approx(0.1)
