"""JsonFile: a JSON object read from a file, with type and range checks on its fields."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from model.weights.contents.kinds import refuse_substitutes
from model.weights.errors import CheckpointError, first_line

MAX_BYTES = 32 << 20
"""The largest JSON file that is read."""


def read_json(path: Path) -> object:
    """Parse a file: UTF-8, or UTF-16 or UTF-32 with a byte-order mark. Text is normalised to NFC.

    Raises:
        CheckpointError: the file is missing, unreadable, too large or not valid JSON, or an object
            has a key twice.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CheckpointError(path, f"is larger than {MAX_BYTES >> 20} MiB")
        content = path.read_bytes()
        refuse_substitutes(content[:256], path)
        return _nfc(json.loads(content, object_pairs_hook=partial(_object, path)))
    except FileNotFoundError as error:
        raise CheckpointError(path, "no such file") from error
    except OSError as error:
        raise CheckpointError(path, f"cannot be read: {error.strerror}") from error
    except CheckpointError:
        raise
    except (ValueError, RecursionError) as error:
        raise CheckpointError(path, f"is not valid JSON: {first_line(error)}") from error


@dataclass(frozen=True, slots=True)
class JsonFile:
    """A JSON object and the file it was read from. A field that is null counts as absent.

    Raises:
        CheckpointError: from every method; the message names the file and the field.
    """

    path: Path
    fields: dict[str, object]

    @classmethod
    def read(cls, path: Path) -> JsonFile:
        content = read_json(path)
        if not isinstance(content, dict):
            problem = f"must hold a JSON object, but holds a {type(content).__name__}"
            raise CheckpointError(path, problem)
        return cls(path, content)

    def integer(self, key: str, default: int, *, low: int = 1, high: int = 1 << 20) -> int:
        value = self._get(key, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # as some tools write a whole number
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.error(key, f"must be a whole number from {low} to {high}")
        return value

    def number(self, key: str, default: float) -> float:
        value = self._get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.error(key, "must be a number")
        if not math.isfinite(value):
            raise self.error(key, "must be finite")
        return float(value)

    def string(self, key: str, default: str = "") -> str:
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self.error(key, "must be a string")
        return value

    def forbid_others(self, known: Collection[str]) -> None:
        """Refuse fields that this code does not know, unless they are null or false."""
        for key, value in self.fields.items():
            if key not in known and not key.startswith("_") and value not in (None, False):
                raise self.error(
                    key, "this service does not know it: remove it if it means nothing"
                )

    def require(self, key: str, expected: object) -> None:
        """Check that a field has the only value this code supports, or is absent."""
        if self._get(key, expected) != expected:
            raise self.error(key, f"must be {json.dumps(expected)}")

    def error(self, key: str, problem: str) -> CheckpointError:
        """The error to raise for a field: "KEY is VALUE, but PROBLEM"."""
        value = json.dumps(self.fields.get(key))
        return CheckpointError(self.path, f"{key} is {value[:60]}, but {problem}")

    def _get(self, key: str, default: object) -> object:
        value = self.fields.get(key)
        return default if value is None else value


def _object(path: Path, pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object whose keys differ, also after normalising."""
    fields: dict[str, object] = {}
    for key, value in pairs:
        name = unicodedata.normalize("NFC", key)
        if name in fields:
            raise CheckpointError(path, f"has the key {name[:80]!r} twice in one object")
        fields[name] = value
    return fields


def _nfc(value: object) -> object:
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, list):
        return [_nfc(each) for each in value]
    if isinstance(value, dict):
        return {key: _nfc(each) for key, each in value.items()}
    return value
