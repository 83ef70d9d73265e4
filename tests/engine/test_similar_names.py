"""SimilarNames: what a misspelt name may mean."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import pytest

from service.engine.similar_names import CANDIDATES, LONGEST, SimilarNames

MANY = [
    f"{colour} {thing} {i}" for i in range(700) for colour in ("red", "green") for thing in "xyz"
]


def test_the_most_similar_names_come_first() -> None:
    names = SimilarNames([*MANY, "golden retriever", "labrador retriever", "gordon setter"])
    assert names.closest("goldn retreiver", 2) == ["golden retriever", "labrador retriever"]


def test_few_names_are_all_compared_precisely() -> None:
    assert SimilarNames(["apple", "pear", "plum"]).closest("aple", 5) == ["apple", "plum", "pear"]


@pytest.mark.parametrize("sought", ["", "?", "\u65e5\u672c", "QQQQ", "q" * 5000])
def test_nothing_may_be_similar(sought: str) -> None:
    assert SimilarNames(MANY).closest(sought, 5) == []


def test_there_may_be_no_names() -> None:
    assert SimilarNames([]).closest("apple", 5) == []


@pytest.mark.parametrize("sought", ["red x 17", "green " * 40, "er re ed d  gr"])
def test_the_number_of_precise_comparisons_is_bounded(
    monkeypatch: pytest.MonkeyPatch, sought: str
) -> None:
    compared: list[tuple[int, int]] = []

    def count(word: str, possibilities: Sequence[str], n: int, cutoff: float) -> list[str]:
        compared.append((len(word), len(possibilities)))
        return []

    monkeypatch.setattr(difflib, "get_close_matches", count)
    SimilarNames(MANY).closest(sought, 5)
    ((length, names),) = compared
    assert length <= LONGEST
    assert names <= CANDIDATES
