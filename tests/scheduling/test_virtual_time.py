"""Virtual time: the clock by which requests would end if all of them shared the device."""

from __future__ import annotations

import pytest

from service.scheduling.virtual_time import VirtualTime


def test_a_request_dropped_after_its_share_has_ended_takes_no_others_share_along() -> None:
    clock = VirtualTime()
    ended = clock.admit(2, "a")
    stays = clock.admit(10, "b")
    clock.advance(4)
    assert clock.now == ended.finish == 2
    clock.forget(ended)
    clock.advance(8)
    assert clock.now == stays.finish == 10


def test_a_client_whose_share_has_just_ended_counts_as_new() -> None:
    clock = VirtualTime()
    first = clock.admit(10, "a")
    clock.advance(10)
    assert clock.now == first.finish
    assert clock.admit(10, "a").finish == 20


def test_the_nth_request_that_a_client_has_in_weighs_1_over_n() -> None:
    clock = VirtualTime()
    assert [clock.admit(6, "a").finish for _ in range(3)] == [6, 12, 18]
    assert clock.admit(6, "b").finish == 6
    clock.advance(17)  # 17 / 6 a weight: 6 of both first ones, 3 and 2 of the others
    assert clock.now == pytest.approx(6)
