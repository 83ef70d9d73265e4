"""JSON objects from untrusted sources: parsed, or refused with a reason."""

from __future__ import annotations

import json
from decimal import Decimal

from service.errors import FieldError, InvalidRequest

LONGEST_NUMBER = 300
"""In digits. Parsing an integer takes quadratic time; a double overflows at 309 digits."""
EXACT_DIGITS = 15
"""A double tells all numbers of so many digits apart."""

LARGEST_INTEGER = 2**64
"""Beyond every field; 1e999999 would take memory as an integer."""


def read_json_object(body: bytes, place: str = "body") -> dict[str, object]:
    """Parse one JSON object in UTF-8; ``place`` names it in errors.

    As in JSON Schema, 1.0 and 1e2 are integers. NaN, infinities and lone surrogates are accepted
    here, and integers beyond a double's range become infinite: the field checks that follow can then
    name the field.

    Raises:
        InvalidRequest: it is not a JSON object, or a member is given more than once.
    """
    try:
        text = body.decode("utf-8-sig")
        content = json.loads(
            text, parse_int=_integer, parse_float=_number, object_pairs_hook=_without_repeats
        )
    except UnicodeDecodeError as error:
        raise _not_an_object(place, f"byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        reason = error.msg.rstrip(" :").removesuffix(" at")
        where = f"{reason} at line {error.lineno} column {error.colno}"
        raise _not_an_object(place, where if text.strip() else "it is empty") from None
    except RecursionError:
        raise _not_an_object(place, "it is nested too deeply") from None
    if not isinstance(content, dict):
        raise _not_an_object(place, "it is JSON, but not an object")
    return content


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= LONGEST_NUMBER else float(digits)


def _number(text: str) -> float:
    """A number with a fraction or an exponent; an int if it denotes an integer, exactly."""
    value = float(text)
    if not value.is_integer() or abs(value) >= LARGEST_INTEGER:
        return value
    if value == 0 or (len(text) <= EXACT_DIGITS and abs(value) < 2**53):
        return int(value)  # 0 may have an exponent that Decimal refuses
    exact = Decimal(text)
    return int(exact) if exact == int(exact) else value


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content: dict[str, object] = {}
    for name, value in pairs:
        if name in content:
            raise InvalidRequest(FieldError(name, "is given more than once", value))
        content[name] = value
    return content


def _not_an_object(place: str, reason: str) -> InvalidRequest:
    allowed = "a JSON object"
    return InvalidRequest(FieldError(place, f"must be {allowed} ({reason})", None, allowed))
