"""The row limit: lower after an out-of-memory, and higher again once enough went well."""

from __future__ import annotations

from service.scheduling.row_limit import RECOVERY_TICKS, RowLimit


def serve(limit: RowLimit, ticks: int, rows: int) -> None:
    for _ in range(ticks):
        limit.succeeded(rows)


def test_a_larger_failure_after_a_smaller_one_raises_no_limit() -> None:
    limit = RowLimit(32)
    limit.shrink(8)
    assert limit.rows == 4
    limit.shrink(16)
    assert limit.rows == 4


def test_an_out_of_memory_begins_the_count_of_good_ticks_anew() -> None:
    limit = RowLimit(16)
    limit.shrink(16)
    serve(limit, RECOVERY_TICKS - 1, rows=8)
    limit.shrink(8)
    serve(limit, RECOVERY_TICKS - 1, rows=4)
    assert limit.rows == 4
    serve(limit, 1, rows=4)
    assert limit.rows == 8


def test_under_an_odd_limit_guided_images_alone_make_full_ticks() -> None:
    limit = RowLimit(16)
    limit.shrink(10)
    assert limit.rows == 5
    serve(limit, 2 * RECOVERY_TICKS, rows=3)
    assert limit.rows == 5
    serve(limit, RECOVERY_TICKS, rows=4)
    assert limit.rows == 10


def test_the_limit_grows_to_the_most_rows_and_no_further() -> None:
    limit = RowLimit(12)
    limit.shrink(16)
    serve(limit, RECOVERY_TICKS, rows=8)
    assert limit.rows == 12


def test_where_a_tick_has_one_row_at_most_it_keeps_that_one() -> None:
    limit = RowLimit(1)
    limit.shrink(1)
    assert limit.rows == 1
