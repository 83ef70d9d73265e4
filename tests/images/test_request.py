"""GenerateRequest: the ranges of its fields."""

from __future__ import annotations

import json

import pytest

from service.errors import InvalidRequest
from service.images.request import parse_generate_request


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("class_label", "x" * 200),
        ("cfg_scale", 1.0),
        ("cfg_scale", 20.0),
        ("num_sampling_steps", 1),
        ("num_sampling_steps", 1000),
        ("seed", 0),
        ("seed", 2**63 - 1),
        ("num_images", 1),
        ("guidance_interval", (0.0, 0.0)),
        ("guidance_interval", (1.0, 1.0)),
        ("timeout_s", 1e-9),
        ("preview_every", 0),
        ("preview_every", 1000),
    ],
)
def test_the_bounds_of_a_range_are_accepted(name: str, value: object) -> None:
    body = json.dumps({"class_label": 0} | {name: value}).encode()
    assert getattr(parse_generate_request(body), name) == value


INTEGERS = ("class_label", "num_sampling_steps", "seed", "num_images", "preview_every")


def parsed(name: str, number: str) -> object:
    others = "" if name == "class_label" else '"class_label": 0, '
    body = f'{{{others}"{name}": {number}}}'.encode()
    return getattr(parse_generate_request(body), name)


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize(
    ("number", "value"), [("1.0", 1), ("1e2", 100), ("0.5e1", 5), ("20E-1", 2), ("3.000", 3)]
)
def test_every_notation_of_an_integer_is_an_integer(name: str, number: str, value: int) -> None:
    read = parsed(name, number)
    assert (type(read), read) == (int, value)


@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("9223372036854775807.0", 2**63 - 1),
        ("1.152921504606847e18", 1_152_921_504_606_847_000),
        ("9007199254740993.00", 2**53 + 1),
    ],
)
def test_a_large_integer_is_read_exactly_in_every_notation(number: str, value: int) -> None:
    assert parsed("seed", number) == value


@pytest.mark.parametrize("name", INTEGERS[1:])
@pytest.mark.parametrize(
    "number", ["1.5", "1e-1", "-1.0", "true", '"1"', "1e30", "1e400", "NaN", "4503599627370497.5"]
)
def test_anything_else_must_be_an_integer(name: str, number: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{name}: must be an integer from [01] "):
        parsed(name, number)


def test_a_large_number_with_a_fraction_is_not_an_integer() -> None:
    with pytest.raises(InvalidRequest, match="must be an integer"):
        parsed("seed", "9007199254740993.5")


@pytest.mark.parametrize("number", ["1e-400", "0e99999999999999999999", "-0.0", "0." + "0" * 9999])
def test_a_zero_in_any_notation_is_zero(number: str) -> None:
    assert parsed("seed", number) == 0


def test_only_a_few_unknown_fields_are_reported() -> None:
    body = json.dumps({"class_label": 0} | {f"f{i}": 0 for i in range(5000)}).encode()
    with pytest.raises(InvalidRequest) as caught:
        parse_generate_request(body)
    assert [error.field for error in caught.value.errors] == [f"f{i}" for i in range(10)]
