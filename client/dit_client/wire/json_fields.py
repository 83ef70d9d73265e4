"""JSON fields: members of a JSON object, read with their types checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeVar

from dit_client.errors import InvalidAnswer

T = TypeVar("T")


def read_json(content: bytes | str) -> object:
    """
    Raises:
        InvalidAnswer: this is not JSON.
    """
    try:
        value: object = json.loads(content)
    except (ValueError, RecursionError):
        raise InvalidAnswer(f"the answer is not JSON: {_short(content)}") from None
    return value


def as_object(value: object) -> Mapping[str, object]:
    """
    Raises:
        InvalidAnswer: this is not a JSON object.
    """
    return _checked(value, dict, "the answer")


def as_list(value: object) -> list[object]:
    """
    Raises:
        InvalidAnswer: this is not a JSON list.
    """
    return _checked(value, list, "the answer")


def member(fields: Mapping[str, object], name: str, kind: type[T]) -> T:
    """A required member. An integer is also a float.

    Raises:
        InvalidAnswer: it is missing, or of another type.
    """
    if name not in fields:
        raise InvalidAnswer(f"the answer has no {name!r}")
    value = fields[name]
    if kind is float and type(value) is int:
        value = float(value)
    return _checked(value, kind, repr(name))


def optional(fields: Mapping[str, object], name: str, kind: type[T]) -> T | None:
    """A member that may be missing or null.

    Raises:
        InvalidAnswer: it is of another type.
    """
    return None if fields.get(name) is None else member(fields, name, kind)


def texts(fields: Mapping[str, object], name: str) -> tuple[str, ...]:
    """A list of strings; one that is missing or null is empty.

    Raises:
        InvalidAnswer: it is anything else.
    """
    each = optional(fields, name, list) or []
    return tuple(_checked(text, str, f"a member of {name!r}") for text in each)


def _checked(value: object, kind: type[T], what: str) -> T:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InvalidAnswer(f"{what} is not {_WORDS.get(kind, kind.__name__)}: {_short(value)}")
    return value


_WORDS: dict[type, str] = {
    dict: "a JSON object",
    list: "a JSON list",
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
}


def _short(value: object) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else repr(value)
    return " ".join(text[:100].split()) + ("…" if len(text) > 100 else "")
