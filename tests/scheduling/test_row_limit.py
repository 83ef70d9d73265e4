"""RowLimit: lower after an out-of-memory, higher again after enough successful ticks."""

from __future__ import annotations

from service.scheduling.row_limit import RECOVERY_TICKS, RowLimit


def succeed(limit: RowLimit, ticks: int, rows: int) -> None:
    for _ in range(ticks):
        limit.succeeded(rows)


def test_a_larger_failure_after_a_smaller_one_does_not_raise_the_limit() -> None:
    limit = RowLimit(32)
    limit.shrink(8)
    assert limit.rows == 4
    limit.shrink(16)
    assert limit.rows == 4


def test_half_of_an_odd_number_of_rows_is_rounded_down() -> None:
    limit = RowLimit(32)
    limit.shrink(7)
    assert limit.rows == 3


def test_an_out_of_memory_restarts_the_count_of_successful_ticks() -> None:
    limit = RowLimit(16)
    limit.shrink(16)
    succeed(limit, RECOVERY_TICKS - 1, rows=8)
    limit.shrink(8)
    succeed(limit, RECOVERY_TICKS - 1, rows=4)
    assert limit.rows == 4
    succeed(limit, 1, rows=4)
    assert limit.rows == 8


def test_under_an_odd_limit_ticks_of_guided_images_count_as_full() -> None:
    limit = RowLimit(16)
    limit.shrink(10)
    assert limit.rows == 5
    succeed(limit, 2 * RECOVERY_TICKS, rows=3)
    assert limit.rows == 5
    succeed(limit, RECOVERY_TICKS, rows=4)
    assert limit.rows == 10


def test_the_limit_does_not_grow_beyond_max_rows() -> None:
    limit = RowLimit(12)
    limit.shrink(16)
    succeed(limit, RECOVERY_TICKS, rows=8)
    assert limit.rows == 12


def test_a_limit_of_one_row_stays_at_one() -> None:
    limit = RowLimit(1)
    limit.shrink(1)
    assert limit.rows == 1
