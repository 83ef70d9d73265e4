"""SimilarNames: the names that a misspelt one may mean, found quickly among tens of thousands."""

from __future__ import annotations

import difflib
import operator
from collections import defaultdict
from collections.abc import Iterable

import numpy as np

LEAST_SIMILARITY = 0.5
CANDIDATES = 32
LONGEST = 64
"""Characters that are compared; a precise comparison takes quadratic time."""


class SimilarNames:
    """Compares precisely only the names that share the most pairs of characters with the one sought."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = list(names)
        places: dict[str, list[int]] = defaultdict(list)
        pairs = [_pairs(name) for name in self._names]
        for place, own in enumerate(pairs):
            for pair in own:
                places[pair].append(place)
        self._places = {pair: np.array(each, np.int32) for pair, each in places.items()}
        self._sizes = np.array([len(own) for own in pairs])

    def closest(self, name: str, count: int) -> list[str]:
        """At most ``count`` names, the most similar first."""
        return difflib.get_close_matches(
            name[:LONGEST], self._candidates(name), n=count, cutoff=LEAST_SIMILARITY
        )

    def _candidates(self, name: str) -> list[str]:
        pairs = _pairs(name)
        places = [self._places[pair] for pair in pairs if pair in self._places]
        if not places:
            return []
        shared = np.bincount(np.concatenate(places), minlength=len(self._names))
        alike = shared / (self._sizes + len(pairs))
        best = np.argpartition(-alike, min(CANDIDATES, len(alike)) - 1)[:CANDIDATES]
        return [self._names[place] for place in sorted(best)]


def _pairs(name: str) -> set[str]:
    """Neighbouring characters, with a space at either end."""
    short = name[:LONGEST]
    return set(map(operator.add, f" {short}", f"{short} "))
