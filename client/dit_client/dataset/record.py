"""Record: what a data set was made with, kept in its folder so that a later run continues it or refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dit_client.dataset.files import write_atomically
from dit_client.errors import InvalidAnswer
from dit_client.wire.json_fields import as_object, read_json

FILE = "dataset.json"
LOCK = ".lock"
Layout = Literal["folders", "webdataset", "npz"]


class DatasetError(Exception):
    """The folder cannot hold this data set; the message says why."""


@dataclass(frozen=True, slots=True)
class Record:
    """Settings of a data set. ``options`` are the fields of its requests that were given."""

    base_seed: int
    per_class: int
    classes: tuple[tuple[int, str], ...]
    options: Mapping[str, object]
    layout: Layout
    shard_size: int | None
    model: str
    model_digest: str

    def as_members(self) -> dict[str, object]:
        members = {name: getattr(self, name) for name in self.__slots__}
        members["classes"] = [list(each) for each in self.classes]
        plain: dict[str, object] = json.loads(json.dumps(members))
        return plain

    def write(self, folder: Path) -> None:
        text = json.dumps(self.as_members(), indent=2, ensure_ascii=False)
        write_atomically(folder / FILE, f"{text}\n".encode())


def check_folder(folder: Path, record: Record) -> bool:
    """Whether the folder has a data set of this record already; a new one must be empty.

    In folders, a data set may grow: more per class, or more classes.

    Raises:
        DatasetError: the folder has other things, or a data set with other settings.
    """
    file = folder / FILE
    if not file.exists():
        if any(each.name != LOCK for each in folder.iterdir()):
            raise DatasetError(f"{folder} is not empty, and has no {FILE}: choose another folder")
        return False
    there, now = _read(file), record.as_members()
    changed = [name for name in now if there.get(name) != now[name]]
    if record.layout == "folders":
        changed = [name for name in changed if not _grows(name, there, now)]
    changed = [name for name in changed if name != "model"]  # a name; the digest decides
    if changed:
        words = "; ".join(
            f"{name} {_brief(there.get(name))}, not {_brief(now[name])}" for name in changed
        )
        raise DatasetError(f"{folder} was made with other settings: {words}")
    return True


def _grows(name: str, there: Mapping[str, object], now: Mapping[str, object]) -> bool:
    before, after = there.get(name), now[name]
    if name == "per_class" and isinstance(before, int) and isinstance(after, int):
        return before <= after
    if name == "classes" and isinstance(before, list) and isinstance(after, list):
        return all(each in after for each in before)
    return False


def _read(file: Path) -> Mapping[str, object]:
    try:
        return as_object(read_json(file.read_bytes()))
    except InvalidAnswer:
        raise DatasetError(
            f"{file} is not a JSON object: is this the folder of a data set?"
        ) from None


def _brief(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"
