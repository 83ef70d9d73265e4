"""By how much requests delay each other, counted by powers of two."""

from __future__ import annotations

import pytest

from service.fleet.contention import contention, counts_of


def test_requests_are_counted_by_the_power_of_two_of_what_is_left() -> None:
    assert counts_of([1]) == (1,)
    assert counts_of([2, 3]) == (0, 2)
    assert counts_of([4, 7, 8, 1]) == (1, 0, 2, 1)
    assert counts_of([1023, 1024]) == (0,) * 9 + (1, 1)


def test_what_is_done_counts_as_nothing() -> None:
    assert counts_of([0, 0]) == counts_of([]) == ()


def test_to_a_small_request_it_matters_how_many_there_are() -> None:
    """Each delays it, or is delayed by it, by its own work."""
    assert contention(counts_of([5000]), 10) == 10
    assert contention(counts_of([100, 200, 300]), 10) == 30


def test_to_a_large_request_it_matters_how_much_is_left() -> None:
    assert contention(counts_of([96]), 5000) == 96
    assert contention(counts_of([96, 12, 12]), 5000) == 120


@pytest.mark.parametrize("left", [1, 2, 3, 17, 64, 100, 127, 4000])
def test_what_is_left_is_known_within_a_half(left: int) -> None:
    assert left / 1.5 <= contention(counts_of([left]), 2**40) <= 1.5 * left


def test_others_count_by_what_is_left_of_them() -> None:
    assert contention(counts_of([96]), 50, others=[7, 60]) == 50 + 7 + 50
    assert contention((), 50, others=[49, 51]) == 99


def test_a_request_without_work_contends_with_nobody() -> None:
    assert contention(counts_of([96, 12]), 0, others=[7]) == 0
