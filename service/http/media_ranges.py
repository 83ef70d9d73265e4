"""Media ranges: which type an Accept header prefers, as RFC 9110 (12.5.1) defines it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

QUALITY = re.compile(r"[0-9]*\.?[0-9]+")
ANYTHING = "*/*"
BY_ACCEPT = {"Vary": "Accept"}
"""The header of every answer whose form Accept decides, for caches."""


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One member of an Accept header, and its position there."""

    name: str
    quality: float
    place: int

    @property
    def preference(self) -> tuple[float, int, int]:
        """The smallest is preferred: by quality, then the more specific, then the first."""
        return -self.quality, self.name.count("*"), self.place


def best_offer(accept: str, offers: Sequence[str]) -> str | None:
    """The offered type that Accept prefers, or None if it accepts none of them.

    The most specific range that matches an offer gives its quality; 0 excludes it. Among offers of
    equal quality the more specific match wins, then the range given first, then the first offer.
    """
    ranges = _read(accept, {name for offer in offers for name in _names(offer)})
    matches = ((_most_specific(ranges, offer), offer) for offer in offers)
    accepted = [(match.preference, offer) for match, offer in matches if match.quality > 0]
    return min(accepted, key=lambda pair: pair[0])[1] if accepted else None


def _read(accept: str, wanted: set[str]) -> dict[str, MediaRange]:
    """The ranges of a header by name; the first of each counts, and a header without any is */*."""
    ranges: dict[str, MediaRange] = {}
    parts = accept.lower().split(",") if accept.strip(" \t,;") else [ANYTHING]
    for place, part in enumerate(parts):
        name, _, parameters = part.partition(";")
        name = name.strip()
        name = ANYTHING if name == "*" else name
        if name in wanted and name not in ranges:
            ranges[name] = MediaRange(name, _quality(parameters.split(";")), place)
    return ranges


def _names(offer: str) -> tuple[str, str, str]:
    """The ranges that match a type, the most specific first."""
    return offer, f"{offer.partition('/')[0]}/*", ANYTHING


def _most_specific(ranges: dict[str, MediaRange], offer: str) -> MediaRange:
    found = (ranges[name] for name in _names(offer) if name in ranges)
    return next(found, MediaRange("", 0.0, 0))


def _quality(parameters: Iterable[str]) -> float:
    """From 0 to 1; 0 if it is not a number."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            value = value.strip()
            return min(float(value), 1.0) if QUALITY.fullmatch(value) else 0.0
    return 1.0
