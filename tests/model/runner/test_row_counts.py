"""Row counts: what a tick is padded to, and which counts are warmed up."""

from __future__ import annotations

import pytest

from model.runner.row_counts import Padding, RowCounts


@pytest.mark.parametrize(
    ("padding", "padded"),
    [
        ("none", [1, 2, 3, 5, 9, 12]),
        ("to a power of two", [1, 2, 4, 8, 12, 12]),
        ("full", [12] * 6),
    ],
)
def test_rows_are_padded(padding: Padding, padded: list[int]) -> None:
    counts = RowCounts(12, padding)
    assert [counts.padded(rows) for rows in (1, 2, 3, 5, 9, 12)] == padded


@pytest.mark.parametrize("max_rows", [1, 2, 8, 12])
def test_every_padded_row_count_is_warmed_up(max_rows: int) -> None:
    counts = RowCounts(max_rows, "to a power of two")
    assert counts.to_warm_up() == sorted({counts.padded(rows) for rows in range(1, max_rows + 1)})
    assert RowCounts(max_rows, "full").to_warm_up() == [max_rows]


def test_without_padding_the_extremes_are_warmed_up() -> None:
    assert RowCounts(12, "none").to_warm_up() == [1, 12]
