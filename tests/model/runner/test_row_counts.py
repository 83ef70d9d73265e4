"""Row counts: what a tick is padded to, and which counts are warmed up."""

from __future__ import annotations

import pytest

from model.runner.row_counts import CHUNK_ROWS, Padding, RowCounts


@pytest.mark.parametrize(
    ("padding", "padded"),
    [
        ("none", [1, 2, 3, 5, 9, 12]),
        ("buckets", [1, 2, 4, 8, 12, 12]),
        ("chunks", [12] * 6),
    ],
)
def test_rows_are_padded(padding: Padding, padded: list[int]) -> None:
    counts = RowCounts(12, padding)
    assert [counts.padded(rows) for rows in (1, 2, 3, 5, 9, 12)] == padded


def test_buckets_are_powers_of_two_up_to_16_and_then_multiples_of_8() -> None:
    counts = RowCounts(128, "buckets")
    assert counts.to_warm_up() == [1, 2, 4, 8, 16, *range(24, 129, 8)]
    assert [counts.padded(rows) for rows in (17, 24, 25, 66, 128)] == [24, 24, 32, 72, 128]


@pytest.mark.parametrize("max_rows", [1, 2, 8, 12, 20, 128])
def test_every_bucket_is_warmed_up_and_recorded(max_rows: int) -> None:
    counts = RowCounts(max_rows, "buckets")
    buckets = sorted({counts.padded(rows) for rows in range(1, max_rows + 1)})
    assert counts.to_warm_up() == counts.to_record() == buckets
    assert counts.chunk == max_rows


def test_a_tick_of_chunks_is_as_many_equal_passes_as_needed() -> None:
    counts = RowCounts(128, "chunks")
    assert counts.chunk == CHUNK_ROWS == 16
    assert [counts.padded(rows) for rows in (1, 16, 17, 128)] == [16, 16, 32, 128]
    assert counts.to_record() == [16]
    assert counts.to_warm_up() == [1, 128]
    assert RowCounts(12, "chunks").to_record() == [12]


def test_without_padding_the_extremes_are_warmed_up() -> None:
    assert RowCounts(12, "none").to_warm_up() == [1, 12]
