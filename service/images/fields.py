"""Fields: check JSON members against a record's types, and report every wrong one.

Request bodies, picture metadata and query parameters all report their errors through here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Literal, TypeVar, get_args, get_origin

from annotated_types import DocInfo, Ge, Le
from pydantic import AliasChoices, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from service.errors import FieldError, InvalidRequest

_SHOULD = re.compile("^(Value error, )?(Input|String|Value) should")

R = TypeVar("R")

MOST_UNKNOWN = 10
"""Unknown fields that are reported: a body can hold thousands."""


def read_fields(record: type[R], content: Mapping[str, object], place: str) -> R:
    """Build a record from the members of a JSON object; ``place`` names the object in errors.

    Args:
        record: a pydantic model or dataclass.

    Raises:
        InvalidRequest: fields are missing, unknown, given twice or out of range.
    """
    infos, owners = _infos(record), names_of(record)
    known = ", ".join(infos)
    wrong = {
        name: FieldError(name, f"is not a field of {place}", content[name], known)
        for name in islice((name for name in content if name not in owners), MOST_UNKNOWN)
    }
    # Null is the same as absent: many clients write it for every field that is not set. JSON has
    # no tuples: turn arrays into tuples, so that strict types accept them.
    members = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in content.items()
        if name in owners and value is not None
    }
    build: Callable[..., R] = record
    try:
        built = build(**members)
    except ValidationError as error:
        for each in error.errors(include_url=False, include_context=False):
            name = str(each["loc"][0])
            field = owners[name]
            wrong.setdefault(name, _field_error(field, infos[field], each, content))
    if wrong:
        raise InvalidRequest(*wrong.values())
    return built


def names_of(record: type[object]) -> dict[str, str]:
    """By each name under which a field is accepted, the field."""
    return {name: field for field, info in _infos(record).items() for name in _names(field, info)}


def allowed_values(info: FieldInfo) -> str | None:
    """What a field may be, in words; None if only the validator's message can say it."""
    facts = [*info.metadata, *_facts(info.annotation)]
    for fact in facts:
        if isinstance(fact, DocInfo):
            return fact.documentation
    low = next((fact.ge for fact in facts if isinstance(fact, Ge)), None)
    high = next((fact.le for fact in facts if isinstance(fact, Le)), None)
    if low is not None:
        number = "an integer" if int in _types(info.annotation) else "a number"
        return f"{number}, {low} or more" if high is None else f"{number} from {low} to {high}"
    *others, last = _choices(info.annotation) or [""]
    return f"{', '.join(others)} or {last}" if others else None


def reworded(message: str) -> str:
    """A validator's message as the rest of a sentence that begins with the field."""
    return _SHOULD.sub("must", message)


def _infos(record: type[object]) -> dict[str, FieldInfo]:
    infos = vars(record)["__pydantic_fields__"]
    assert isinstance(infos, dict), "this is a bug: not a pydantic model or dataclass"
    return infos


def _names(field: str, info: FieldInfo) -> list[str]:
    """The names under which a field is accepted."""
    alias = info.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [field]
    return [str(choice) for choice in choices]


def _field_error(
    field: str, info: FieldInfo, error: ErrorDetails, content: Mapping[str, object]
) -> FieldError:
    name, allowed = str(error["loc"][0]), allowed_values(info)
    if error["type"] == "extra_forbidden":
        others = " or ".join(other for other in _names(field, info) if other != name)
        return FieldError(name, f"duplicates {others}", content[name])
    if name not in content or (allowed is None and content[name] is None):
        message = f"is required: {allowed}" if allowed else "is required"
    else:
        message = f"must be {allowed}" if allowed else reworded(error["msg"])
    return FieldError(name, message, content.get(name), allowed)


def _facts(annotation: object) -> Iterator[object]:
    """The metadata of an annotation, or of its members, such as CfgScale in CfgScale | None."""
    if hasattr(annotation, "__metadata__"):
        yield from annotation.__metadata__
        return
    if get_origin(annotation) is tuple:
        return
    for part in get_args(annotation):
        yield from _facts(part)


def _types(annotation: object) -> list[object]:
    """The types of a union, without their metadata."""
    parts = get_args(annotation)
    return [each for part in parts for each in _types(part)] if parts else [annotation]


def _choices(annotation: object) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    return [choice for part in get_args(annotation) for choice in _choices(part)]
