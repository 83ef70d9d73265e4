"""Plan: which pictures a data set has. The same plan has the same pictures in every run."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from dit_client.results import ClassEntry

SEEDS = 2**53
"""Seeds are below: every reader of JSON keeps such integers exactly."""

LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class Task:
    """One picture: the ``number``-th of the data set, the ``index``-th of its class."""

    number: int
    entry: ClassEntry
    index: int
    seed: int


@dataclass(frozen=True, slots=True)
class Plan:
    """``per_class`` pictures of each class. Every class gets its first picture before any its second, so
    that a data set that is not finished is balanced, too."""

    classes: tuple[ClassEntry, ...]
    per_class: int
    base_seed: int

    def __len__(self) -> int:
        return len(self.classes) * self.per_class

    def __iter__(self) -> Iterator[Task]:
        return map(self.task, range(len(self)))

    def task(self, number: int) -> Task:
        index, place = divmod(number, len(self.classes))
        entry = self.classes[place]
        return Task(number, entry, index, seed_of(self.base_seed, entry.id, index))

    def numbers(self) -> dict[int, int]:
        """Each class's place in a round, by its id: a picture's number is index * classes + place."""
        return {entry.id: place for place, entry in enumerate(self.classes)}


def seed_of(base_seed: int, class_id: int, index: int) -> int:
    """The seed of one picture: it depends on nothing else, so a larger data set begins like a smaller."""
    digest = hashlib.sha256(f"{base_seed}:{class_id}:{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % SEEDS


def folder_name(entry: ClassEntry) -> str:
    """A class's folder: sorted by id, and only letters, digits and "_" of its name."""
    name = re.sub(r"\W+", "_", entry.name)[:LONGEST_NAME].strip("_")
    return f"{entry.id:05}-{name}" if name else f"{entry.id:05}"
