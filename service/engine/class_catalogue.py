"""ClassCatalogue: class ids, and their names, synonyms and WordNet ids."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from model.weights.class_names import is_wordnet_id
from service.engine.similar_names import SimilarNames
from service.errors import FieldError, InvalidRequest, UnknownClass

NEAREST = 5
BEGINNING_OF_ID = re.compile("n[0-9]{1,8}")
BETWEEN_WORDS = re.compile(r"[^\w'-]+")


@dataclass(frozen=True, slots=True)
class ClassEntry:
    """A class with its name, its synonyms, and its WordNet id if it is known."""

    id: int
    name: str
    synonyms: tuple[str, ...]
    wordnet_id: str | None = None

    @classmethod
    def of(cls, class_id: int, names: tuple[str, ...]) -> ClassEntry:
        """The class with these names, of which one may be a WordNet id."""
        wordnet_id = next(filter(is_wordnet_id, names), None)
        others = tuple(name for name in names[1:] if name != wordnet_id)
        return cls(class_id, names[0], others, wordnet_id)

    @property
    def words(self) -> tuple[str, ...]:
        """Its name and synonyms."""
        return (self.name, *self.synonyms)


class ClassCatalogue:
    """Looks classes up by name, ignoring case, spacing and the form of Unicode.

    A class is also found by all its names together, with commas between them.

    Args:
        names: for each class id in order, the class's name followed by its synonyms and WordNet id.
    """

    def __init__(self, names: Iterable[tuple[str, ...]]) -> None:
        all_names = tuple(names)
        self.entries = tuple(ClassEntry.of(i, each) for i, each in enumerate(all_names))
        self._ids: dict[str, list[int]] = defaultdict(list)
        self._spelling: dict[str, str] = {}
        self._keys: list[list[str]] = []
        for entry, own in zip(self.entries, all_names):
            self._keys.append([_key(name) for name in entry.words])
            for name in own:
                self._spelling.setdefault(_key(name), name)
            together = (", ".join(entry.words), ", ".join(own))
            for key in dict.fromkeys(_key(name) for name in (*own, *together)):
                self._ids[key].append(entry.id)
        self._similar = SimilarNames(self._spelling)

    def __len__(self) -> int:
        return len(self.entries)

    def resolve(self, label: int | str) -> ClassEntry:
        """The class meant by an id, a name, a synonym, a WordNet id, or an id written as text.

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
        """The classes with ``query`` in a name or synonym, or at the beginning of their WordNet id.

        All classes if it is empty.
        """
        key = _key(query)
        beginning = key if BEGINNING_OF_ID.fullmatch(key) else None
        return [
            entry
            for entry, own in zip(self.entries, self._keys)
            if any(key in other for other in own)
            or (beginning and (entry.wordnet_id or "").startswith(beginning))
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
        """Names that the text mentions, the longest first; that contain it; that are similar."""
        key = _key(name)
        text = f" {BETWEEN_WORDS.sub(' ', key)} "
        mentioned = sorted((each for each in self._spelling if f" {each} " in text), key=len)[::-1]
        containing = [other for other in self._spelling if key and key in other]
        similar = self._similar.closest(key, NEAREST)
        nearest = dict.fromkeys((*mentioned, *containing, *similar))
        return [self._spelling[other] for other in nearest][:NEAREST]


def _key(name: str) -> str:
    """What names that count as the same have in common: NFC, case folded, one space between words, and
    parts between commas that differ."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    parts = (" ".join(part.replace("_", " ").split()) for part in folded.split(","))
    return ", ".join(dict.fromkeys(part for part in parts if part))
