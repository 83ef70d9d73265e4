"""By how much requests delay each other, counted by powers of two."""

from __future__ import annotations

import pytest

from service.fleet.contention import Counts, contention, counts_of


def singles(*left: int) -> Counts:
    """Of requests of one image each."""
    return counts_of((each, 1) for each in left)


def test_requests_are_counted_by_the_power_of_two_of_what_is_left() -> None:
    assert singles(1) == ((1, 1),)
    assert singles(2, 3) == ((0, 0), (2, 2))
    assert singles(4, 7, 8, 1) == ((1, 1), (0, 0), (2, 2), (1, 1))
    assert singles(1023, 1024) == ((0, 0),) * 9 + ((1, 1), (1, 1))


def test_requests_of_several_images_are_counted_by_what_is_left_of_one() -> None:
    assert counts_of([(12, 4), (3, 1), (4, 1)]) == ((0, 0), (2, 5), (1, 1))
    assert counts_of([(3, 16)]) == ((1, 16),)  # something is left


def test_what_is_done_counts_as_nothing() -> None:
    assert singles(0, 0) == singles() == ()


def test_to_a_small_request_it_matters_how_many_there_are() -> None:
    """Each delays it, and is delayed by it, by its own work."""
    assert contention(singles(5000), (10, 1)) == 2 * 10
    assert contention(singles(100, 200, 300), (10, 1)) == 2 * 30


def test_to_a_large_request_it_matters_how_much_is_left() -> None:
    assert contention(singles(96), (5000, 1)) == 2 * 96
    assert contention(singles(96, 12, 12), (5000, 1)) == 2 * 120


def test_wide_requests_delay_others_by_all_their_images() -> None:
    """Together for 10 row-steps an image: 16 delay one by 160, and it delays them by 10."""
    assert contention(counts_of([(16 * 96, 16)]), (10, 1)) == 160 + 10
    assert contention(singles(96), (16 * 10, 16)) == 10 + 160
    assert contention((), (10, 1), others=[(16 * 90, 16)]) == 160 + 10
    assert contention((), (50, 1), others=[(16 * 20, 16)]) == (16 + 1) * 20


def test_a_wide_request_delays_as_many_as_there_are() -> None:
    assert contention(singles(96, 96, 96), (8 * 10, 8)) == 3 * (8 + 1) * 10
    assert contention(counts_of([(3 * 96, 3)]), (8 * 10, 8)) == (8 + 3) * 10


@pytest.mark.parametrize("left", [1, 2, 3, 17, 64, 100, 127, 4000])
def test_what_is_left_is_known_within_a_half(left: int) -> None:
    assert left / 1.5 <= contention(singles(left), (2**40, 1)) / 2 <= 1.5 * left


def test_others_count_by_what_is_left_of_them() -> None:
    others = [(7, 1), (60, 1)]
    assert contention(singles(96), (50, 1), others) == 2 * (50 + 7 + 50)
    assert contention((), (50, 1), [(49, 1), (51, 1)]) == 2 * 99


def test_a_request_without_work_contends_with_nobody() -> None:
    assert contention(singles(96, 12), (0, 1), others=[(7, 1)]) == 0
