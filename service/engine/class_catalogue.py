"""ClassCatalogue: class ids, and their names and synonyms."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from service.engine.similar_names import SimilarNames
from service.errors import FieldError, InvalidRequest, UnknownClass

NEAREST = 5


@dataclass(frozen=True, slots=True)
class ClassEntry:
    """A class with its name and its synonyms."""

    id: int
    name: str
    synonyms: tuple[str, ...]


class ClassCatalogue:
    """Looks classes up by name, ignoring case, spacing and the form of Unicode.

    A class is also found by all its names together, with commas between them.

    Args:
        names: for each class id in order, the class's name followed by its synonyms.
    """

    def __init__(self, names: Iterable[tuple[str, ...]]) -> None:
        self.entries = tuple(ClassEntry(i, each[0], each[1:]) for i, each in enumerate(names))
        self._ids: dict[str, list[int]] = defaultdict(list)
        self._spelling: dict[str, str] = {}
        self._keys: list[list[str]] = []
        for entry in self.entries:
            own = (entry.name, *entry.synonyms)
            self._keys.append([_key(name) for name in own])
            for key, name in zip(self._keys[-1], own):
                self._spelling.setdefault(key, name)
            for key in dict.fromkeys([*self._keys[-1], _key(", ".join(own))]):
                self._ids[key].append(entry.id)
        self._similar = SimilarNames(self._spelling)

    def __len__(self) -> int:
        return len(self.entries)

    def resolve(self, label: int | str) -> ClassEntry:
        """The class meant by an id, a name, a synonym, or an id written as text.

        Raises:
            InvalidRequest: the id is out of range, or several classes share the name.
            UnknownClass: no class has the name.
        """
        if isinstance(label, str):
            label = self._id_of(label)
        if not 0 <= label < len(self.entries):
            allowed = f"an integer from 0 to {len(self.entries) - 1}, or a class name"
            raise InvalidRequest(FieldError("class_label", f"must be {allowed}", label, allowed))
        return self.entries[label]

    def search(self, query: str) -> list[ClassEntry]:
        """The classes with ``query`` in a name or synonym; all classes if it is empty."""
        key = _key(query)
        return [
            entry
            for entry, own in zip(self.entries, self._keys)
            if any(key in other for other in own)
        ]

    def _id_of(self, name: str) -> int:
        key = _key(name)
        ids = self._ids.get(key, [])
        # A class's own name takes precedence over another's synonym, and the exact spelling over both.
        ids = [i for i in ids if self._keys[i][0] == key] or ids
        exact = [i for i in ids if self.entries[i].name == unicodedata.normalize("NFC", name)]
        ids = exact or ids
        if len(ids) > 1:
            allowed = " or ".join(str(i) for i in ids)
            message = f"names several classes; send the id, {allowed}"
            raise InvalidRequest(FieldError("class_label", message, name, allowed))
        if ids:
            return ids[0]
        digits = name.strip()
        if digits.isascii() and digits.isdigit() and len(digits) < 10:
            return int(digits)
        raise UnknownClass(name, self._nearest(name))

    def _nearest(self, name: str) -> list[str]:
        key = _key(name)
        similar = self._similar.closest(key, NEAREST)
        containing = [other for other in self._spelling if key and key in other]
        return [self._spelling[other] for other in dict.fromkeys((*containing, *similar))][:NEAREST]


def _key(name: str) -> str:
    """What names that count as the same have in common: NFC, case folded, one space between words, and
    parts between commas that differ."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    parts = (" ".join(part.replace("_", " ").split()) for part in folded.split(","))
    return ", ".join(dict.fromkeys(part for part in parts if part))
