"""How often a request is sent."""

from __future__ import annotations

import pytest

from service.fleet.sending.resending import Resending, Setback

LOSSES = (Setback.LOST, Setback.UNAVAILABLE)


@pytest.mark.parametrize("setback", LOSSES)
def test_a_lost_request_is_sent_again_once(setback: Setback) -> None:
    resending = Resending(deadline=10.0)
    assert resending.allows(setback, 1.0, others=False)
    assert not resending.allows(Setback.LOST, 1.0, others=True)


@pytest.mark.parametrize("setback", Setback)
def test_nothing_is_sent_after_the_deadline(setback: Setback) -> None:
    assert not Resending(deadline=10.0).allows(setback, 10.0, others=True)


def test_one_other_is_asked_where_a_replica_is_full() -> None:
    resending = Resending(deadline=10.0)
    assert resending.allows(Setback.FULL, 1.0, others=True)
    assert not resending.allows(Setback.FULL, 1.0, others=True)
    assert resending.allows(Setback.LOST, 1.0, others=True)


def test_a_full_replica_without_others_has_the_last_word() -> None:
    assert not Resending(deadline=10.0).allows(Setback.FULL, 1.0, others=False)
