"""Body: from a request's bytes to a GenerateRequest, or to what is wrong with which field."""

from __future__ import annotations

import json

from annotated_types import Ge, Le
from pydantic import AliasChoices, ValidationError

from service.errors import FieldError, InvalidRequest
from service.http.schemas import GenerateRequest

LONGEST_NUMBER = 300
"""Digits; a double ends at 309, and reading an integer takes the square of its length."""


def parse_generate_request(body: bytes) -> GenerateRequest:
    """Read a body, whatever its bytes.

    Raises:
        InvalidRequest: it is no JSON object, or a field is wrong; every wrong field is named.
    """
    content = read_json_object(body)
    fields = ", ".join(GenerateRequest.model_fields)
    wrong = {
        name: FieldError(name, "is not a field of this request", value, fields)
        for name, value in content.items()
        if _canonical(name) is None
    }
    known = {name: value for name, value in content.items() if name not in wrong}
    try:
        request = GenerateRequest.model_validate(known)
    except ValidationError as error:
        for each in error.errors(include_url=False, include_context=False):
            name = str(each["loc"][0])
            wrong.setdefault(name, _explain(name, each["type"], content))
    if wrong:
        raise InvalidRequest(*wrong.values())
    return request


def read_json_object(body: bytes, place: str = "body") -> dict[str, object]:
    """Read one JSON object in UTF-8; ``place`` is where it stands, for the errors.

    NaN, infinities and lone surrogates are let through, and integers beyond a double's range
    become infinite, so that whoever checks the fields can name the one they stand in.

    Raises:
        InvalidRequest: it is something else, or names a field twice.
    """
    try:
        text = body.decode("utf-8-sig")
        content = json.loads(text, parse_int=_integer, object_pairs_hook=_without_repeats)
    except UnicodeDecodeError as error:
        raise _no_object(place, f"byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"{error.msg} at line {error.lineno} column {error.colno}"
        raise _no_object(place, where if text.strip() else "it is empty") from None
    except RecursionError:
        raise _no_object(place, "it is nested too deeply") from None
    if not isinstance(content, dict):
        raise _no_object(place, "it is JSON, but no object")
    return content


def allowed_values(name: str) -> str:
    """What a field may be, in words."""
    fixed = {
        "class_label": "a class id, or a class name, see /classes",
        "sampler": "ddim, ddpm or dpmpp_2m",
        "output_format": "png, webp or jpeg",
        "guidance_interval": "[low, high] with 0 <= low <= high <= 1",
        "preview_every": "0 (none) .. 1000",
        "timeout_s": "more than 0, at most the server's limit, see /models",
        "num_images": "1 or more, at most the server's limit, see /models",
    }
    field_name = _canonical(name)
    assert field_name is not None, "this is a bug: there is no such field"
    if field_name in fixed:
        return fixed[field_name]
    low, high = bounds(field_name)
    return f"{low} .. {high}"


def bounds(field_name: str) -> tuple[float, float]:
    """The least and the greatest value of a numeric field."""
    metadata = GenerateRequest.model_fields[field_name].metadata
    low = next(each.ge for each in metadata if isinstance(each, Ge))
    high = next(each.le for each in metadata if isinstance(each, Le))
    assert isinstance(low, int | float), "this is a bug: the field is not a number"
    assert isinstance(high, int | float), "this is a bug: the field is not a number"
    return low, high


def _explain(name: str, kind: str, content: dict[str, object]) -> FieldError:
    allowed = allowed_values(name)
    if name not in content:
        return FieldError(name, f"is required: {allowed}", None, allowed)
    if kind == "extra_forbidden":
        return FieldError(name, f"says again what {_others(name)} says", content[name])
    return FieldError(name, f"must be {allowed}", content[name], allowed)


def _canonical(name: str) -> str | None:
    for field_name in GenerateRequest.model_fields:
        if name in _names(field_name):
            return field_name
    return None


def _others(name: str) -> str:
    field_name = _canonical(name)
    assert field_name is not None, "this is a bug: there is no such field"
    return " or ".join(other for other in _names(field_name) if other != name)


def _names(field_name: str) -> list[str]:
    """The field's name and its aliases."""
    alias = GenerateRequest.model_fields[field_name].validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [field_name]
    return [str(choice) for choice in choices]


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= LONGEST_NUMBER else float(digits)


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content: dict[str, object] = {}
    for name, value in pairs:
        if name in content:
            raise InvalidRequest(FieldError(name, "stands in the object more than once", value))
        content[name] = value
    return content


def _no_object(place: str, reason: str) -> InvalidRequest:
    allowed = "a JSON object"
    return InvalidRequest(FieldError(place, f"must be {allowed} ({reason})", None, allowed))
