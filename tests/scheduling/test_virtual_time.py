"""VirtualTime: the clock of weighted processor sharing."""

from __future__ import annotations

import pytest

from service.scheduling.virtual_time import VirtualTime


def test_forgetting_a_finished_share_leaves_the_others_unchanged() -> None:
    clock = VirtualTime()
    ended = clock.admit(2, "a")
    stays = clock.admit(10, "b")
    clock.advance(4)
    assert clock.now == ended.finish == 2
    clock.forget(ended)
    clock.advance(8)
    assert clock.now == stays.finish == 10


def test_a_client_whose_share_has_just_ended_starts_with_full_weight() -> None:
    clock = VirtualTime()
    first = clock.admit(10, "a")
    clock.advance(10)
    assert clock.now == first.finish
    assert clock.admit(10, "a").finish == 20


def test_a_clients_nth_concurrent_request_weighs_1_over_n() -> None:
    clock = VirtualTime()
    assert [clock.admit(6, "a").finish for _ in range(3)] == [6, 12, 18]
    assert clock.admit(6, "b").finish == 6
    clock.advance(17)  # the work up to time 6: 6 for each first request, 3 and 2 for the others
    assert clock.now == pytest.approx(6)


def test_work_that_was_not_done_after_all_is_given_back() -> None:
    clock = VirtualTime()
    share = clock.admit(100, "a")
    clock.advance(10)
    clock.refund(share, 90)
    assert clock.admit(5, "a").finish == 10 + 2 * 5  # both are concurrent until the clock moves
    clock.advance(10)
    assert clock.now == 20
