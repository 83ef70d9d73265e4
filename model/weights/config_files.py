"""JsonFile: a JSON object on the disk whose fields are read with their types and bounds checked."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from model.weights.errors import CheckpointError, reason


def read_json(path: Path) -> object:
    """Parse a file.

    Raises:
        CheckpointError: the file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(path, "no such file") from error
    except OSError as error:
        raise CheckpointError(path, f"cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(path, f"is not JSON: {reason(error)}") from error


@dataclass(frozen=True, slots=True)
class JsonFile:
    """An object and the file it came from; a field that is null counts as absent.

    Raises:
        CheckpointError: from every method, naming the file and the field.
    """

    path: Path
    fields: dict[str, object]

    @classmethod
    def read(cls, path: Path) -> JsonFile:
        content = read_json(path)
        if not isinstance(content, dict):
            raise CheckpointError(path, f"holds a {type(content).__name__}, must be an object")
        return cls(path, content)

    def integer(self, key: str, default: int, *, low: int = 1, high: int = 1 << 20) -> int:
        value = self._get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(key, f"must be a whole number {low} .. {high}")
        return value

    def number(self, key: str, default: float) -> float:
        value = self._get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.wrong(key, "must be a number")
        if not math.isfinite(value):
            raise self.wrong(key, "must be finite")
        return float(value)

    def text(self, key: str, default: str = "") -> str:
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, "must be a string")
        return value

    def demand(self, key: str, expected: object) -> None:
        """Refuse a value other than the one this code can do; absent is accepted."""
        if self._get(key, expected) != expected:
            raise self.wrong(key, f"must be {json.dumps(expected)}")

    def wrong(self, key: str, what: str) -> CheckpointError:
        """The error that says what the field must be."""
        shown = json.dumps(self.fields.get(key))
        return CheckpointError(self.path, f"{key} is {shown[:60]}, {what}")

    def _get(self, key: str, default: object) -> object:
        value = self.fields.get(key)
        return default if value is None else value
