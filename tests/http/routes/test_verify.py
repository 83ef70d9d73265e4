"""POST /verify: untouched pictures, altered ones, and other files."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.support.checkpoints import small_dit, write_pipeline
from tests.support.requests import PICTURE, gated_service, generate
from tests.support.services import Running, load_small_runner, running_service, wait_until
from tests.support.verify import (
    SIGNATURE,
    chunks,
    metadata,
    pixels_of,
    png_of,
    refusal,
    repainted,
    verdict,
    verify,
    with_metadata,
    with_text,
)


def test_an_untouched_picture_is_verified(exact: Running, file: bytes) -> None:
    assert verdict(exact, file) == {
        "verified": True,
        "bytes_equal": True,
        "max_pixel_difference": 0,
        "reproducible": True,
        "parameters": metadata(file),
        "reason": None,
    }


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpmpp_2m"])
def test_every_image_of_a_request_is_verified(exact: Running, sampler: str) -> None:
    body = PICTURE | {"num_images": 3, "sampler": sampler, "guidance_interval": [0.2, 0.9]}
    for each in exact.client.post("/generate", json=body).json()["images"]:
        alone = generate(exact, body | {"num_images": 1, "seed": each["seed"]}).content
        assert verdict(exact, alone)["bytes_equal"]


def test_one_touched_pixel_is_detected(exact: Running, file: bytes) -> None:
    touched = pixels_of(file).copy()
    touched[3, 4, 1] ^= 1
    result = verdict(exact, repainted(file, touched))
    assert result["verified"] is result["bytes_equal"] is False
    assert result["max_pixel_difference"] == 1
    assert result["reason"] == "the pixels differ by up to 1 of 255"


def test_the_largest_difference_is_reported(exact: Running, file: bytes) -> None:
    white = np.full((8, 8, 3), 255, dtype=np.uint8)
    result = verdict(exact, repainted(file, white))
    assert result["max_pixel_difference"] == 255 - int(pixels_of(file).min())
    assert result["verified"] is False


@pytest.mark.parametrize(("difference", "verified"), [(1, True), (2, False)])
@pytest.mark.parametrize("sign", [1, -1])
def test_outside_reproducible_mode_only_the_last_bit_may_differ(
    service: Running, difference: int, verified: bool, sign: int
) -> None:
    file = generate(service, PICTURE).content
    assert verdict(service, file)["reproducible"] is False
    touched = pixels_of(file).copy()
    place = np.unravel_index(np.abs(touched.astype(int) - 128).argmin(), touched.shape)
    touched[place] = int(touched[place]) + sign * difference
    result = verdict(service, repainted(file, touched))
    assert (result["verified"], result["bytes_equal"]) == (verified, False)
    assert result["max_pixel_difference"] == difference
    assert "reproducible mode is off" in str(result["reason"])


@pytest.mark.parametrize(
    "change", [{"seed": 2}, {"class_label": 1, "class_name": "pear"}, {"cfg_scale": 9.0}]
)
def test_the_parameters_of_another_picture_are_detected(
    exact: Running, file: bytes, change: dict[str, object]
) -> None:
    result = verdict(exact, with_metadata(file, **change))
    assert result["verified"] is False
    assert int(str(result["max_pixel_difference"])) > 0
    assert result["parameters"] == metadata(file) | change


@pytest.mark.parametrize("change", [{"class_name": "melon"}, {"image_size": 16}])
def test_false_metadata_that_changes_no_pixel_is_detected(
    exact: Running, file: bytes, change: dict[str, object]
) -> None:
    result = verdict(exact, with_metadata(file, **change))
    assert (result["verified"], result["max_pixel_difference"]) == (False, 0)
    ((name, value),) = change.items()
    assert f"its {name} is {json.dumps(value)}, here" in str(result["reason"])


@pytest.mark.parametrize("line", ["melon", "plum\nSteps: 3, Sampler: ddim", ""])
def test_a_false_line_for_image_tools_is_detected(exact: Running, file: bytes, line: str) -> None:
    lines = [
        (kind, b"parameters\0" + line.encode() if content.startswith(b"parameters\0") else content)
        for kind, content in chunks(file)
    ]
    result = verdict(exact, png_of(lines))
    assert (result["verified"], result["max_pixel_difference"]) == (False, 0)
    assert "its text `parameters` does not say what `dit` says" in str(result["reason"])


def test_the_line_for_image_tools_may_be_missing(exact: Running, file: bytes) -> None:
    bare = png_of([each for each in chunks(file) if not each[1].startswith(b"parameters\0")])
    result = verdict(exact, bare)
    assert (result["verified"], result["bytes_equal"]) == (True, False)
    assert result["reason"] == "the pixels are the same; only the file's encoding differs"


def test_pixels_may_be_packed_otherwise(exact: Running, file: bytes) -> None:
    """Another deflate, another filter, and several chunks."""
    image, texts = Image.open(io.BytesIO(file)), [c for c in chunks(file) if c[0] == b"tEXt"]
    for level in (0, 9):
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=level)
        header, (_, data), end = chunks(buffer.getvalue())
        halves = [(b"IDAT", data[:9]), (b"IDAT", data[9:])]
        assert verdict(exact, png_of([header, *texts, *halves, end]))["verified"] is True


def test_another_version_may_have_made_the_same_picture(exact: Running, file: bytes) -> None:
    result = verdict(exact, with_metadata(file, version="0.0.9"))
    assert (result["verified"], result["bytes_equal"]) == (True, False)
    assert 'its version is "0.0.9", here it would be' in str(result["reason"])


@pytest.mark.parametrize(
    ("change", "reproducible"), [({"model": "renamed"}, True), ({"dtype": "bfloat16"}, False)]
)
def test_a_picture_made_elsewhere_can_be_verified(
    exact: Running, file: bytes, change: dict[str, object], reproducible: bool
) -> None:
    elsewhere = with_metadata(file, **change)
    result = verdict(exact, elsewhere)
    assert (result["verified"], result["bytes_equal"]) == (True, False)
    assert result["reproducible"] is reproducible
    touched = pixels_of(file).copy()
    touched[3, 4, 1] ^= 1
    rounded = verdict(exact, repainted(elsewhere, touched))
    assert rounded["verified"] is not reproducible


def test_a_picture_of_another_model_is_reported_as_such(exact: Running, tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path, small_dit(seed=7))
    with running_service(lambda: load_small_runner(folder)) as other:
        theirs = generate(other, PICTURE).content
    result = verdict(exact, theirs)
    assert (result["verified"], result["bytes_equal"]) == (False, False)
    assert result["max_pixel_difference"] is None
    assert str(result["reason"]).startswith("made by another model")
    for digest in (metadata(theirs)["model_digest"], exact.engine.model_info.digest):
        assert str(digest) in str(result["reason"])


def test_a_large_picture_of_another_model_is_not_an_error(exact: Running, file: bytes) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    large = with_metadata(repainted(file, noise), model_digest="0" * 64, image_size=512)
    assert len(large) > 700_000
    assert str(verdict(exact, large)["reason"]).startswith("made by another model")


@pytest.mark.parametrize(("width", "height"), [(4, 8), (8, 4), (4, 4), (16, 8), (8, 16)])
def test_a_picture_of_another_size_is_not_made_again(
    exact: Running, file: bytes, width: int, height: int
) -> None:
    other = repainted(file, np.resize(pixels_of(file), (height, width, 3)))
    result = verdict(exact, other)
    assert result["reason"] == f"it has {width} x {height} pixels, this model makes 8 x 8"
    assert result["max_pixel_difference"] is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "it is empty"),
        (b"GIF89a", "does not begin with the signature of one"),
        (SIGNATURE, "cut off after 8 bytes"),
        (SIGNATURE + b"\xff" * 4 + b"IHDR", "cut off"),
        (png_of([(b"IEND", b"")]), "does not begin with a header"),
        (png_of([(b"IHDR", b"short"), (b"IEND", b"")]), "does not begin with a header"),
        (png_of([(b"IHDR", bytes(14)), (b"IEND", b"")]), "does not begin with a header"),
        (png_of([(b"IHDR", bytes(13))]), "cut off"),
        (png_of([(b"IHDR", bytes(13)), (b"IEND", b"")]), "no text called `dit`"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_with_the_reason(
    service: Running, body: bytes, reason: str
) -> None:
    field, message = refusal(service, body)
    assert field == "body"
    assert reason in message
    assert message.endswith("it must be a PNG, WebP or JPEG that this service made")


def test_a_flipped_bit_is_a_wrong_checksum(exact: Running, file: bytes) -> None:
    place = file.index(b"IDAT") + 20
    flipped = file[:place] + bytes([file[place] ^ 1]) + file[place + 1 :]
    assert "checksum of the chunk at byte" in refusal(exact, flipped)[1]


def test_two_dit_texts_are_refused(exact: Running, file: bytes) -> None:
    twice = [each for each in chunks(file) for _ in range(1 + each[1].startswith(b"dit\0"))]
    assert "2 texts called `dit`" in refusal(exact, png_of(twice))[1]


@pytest.mark.parametrize("keep", [0, 10])
def test_incomplete_pixels_are_refused(exact: Running, file: bytes, keep: int) -> None:
    cut = [(kind, each[:keep] if kind == b"IDAT" else each) for kind, each in chunks(file)]
    assert "pixels cannot be read" in refusal(exact, png_of(cut))[1]
    assert exact.queue_row_steps == 0


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        (b"", "dit", "it is empty"),
        (b"{", "dit", "line 1 column 2"),
        (b"[]", "dit", "not an object"),
        (b"\xff{}", "dit", "byte 0 is not UTF-8"),
        (b"[" * 30_000, "dit", "nested too deeply"),
        (b'{"seed":1,"seed":2}', "seed", "more than once"),
    ],
)
def test_metadata_that_is_not_a_json_object(
    exact: Running, file: bytes, text: bytes, field: str, message: str
) -> None:
    name, reason = refusal(exact, with_text(file, text))
    assert name == field
    assert message in reason


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("sampler", "euler", "must be ddim, ddpm, dpmpp_2m, fitted or ns"),
        ("cfg_scale", 20.5, "must be a number from 1.0 to 20.0"),
        ("cfg_scale", float("nan"), "must be a number from 1.0 to 20.0"),
        ("cfg_scale", None, "must be a number from 1.0 to 20.0"),
        ("num_sampling_steps", 0, "must be an integer from 1 to 1000"),
        ("num_sampling_steps", 2.5, "must be an integer from 1 to 1000"),
        ("seed", 2**63, "must be an integer from 0 to 9223372036854775807"),
        ("seed", True, "must be an integer from 0 to 9223372036854775807"),
        ("guidance_interval", [0.9, 0.1], "must be [low, high] with 0 <= low <= high <= 1"),
        ("class_label", 5, "must be an integer from 0 to 4, or a class name"),
        ("class_label", -1, "must be an integer, 0 or more"),
        ("class_label", "plum", "must be an integer, 0 or more"),
        ("class_name", "\ud800", "must be text without lone surrogates"),
        ("image_size", 0, "must be an integer from 1 to 65536"),
        ("image_size", 65_537, "must be an integer from 1 to 65536"),
        ("image_size", 10**400, "must be"),
        ("model_digest", "xyz", "must match pattern"),
        ("model_digest", "0" * 63, "must match pattern"),
        ("model_digest", "0" * 65, "must match pattern"),
        ("model_digest", "A" * 64, "must match pattern"),
        ("reproducible", 1, "must be a valid boolean"),
        ("extra", 1, "is not a field of `dit`"),
    ],
)
def test_a_wrong_field_of_the_metadata_is_reported(
    exact: Running, file: bytes, field: str, value: object, message: str
) -> None:
    name, reason = refusal(exact, with_metadata(file, **{field: value}))
    assert name == field
    assert message in reason


def test_missing_fields_are_reported_all_at_once(exact: Running, file: bytes) -> None:
    answer = verify(exact, with_text(file, b"{}"))
    assert answer.status_code == 422
    errors = answer.json()["errors"]
    assert {error["field"] for error in errors} == metadata(file).keys()
    assert {str(error["message"]).partition(":")[0] for error in errors} == {"is required"}


def test_verify_has_its_own_body_limit(exact: Running) -> None:
    for path, most in (("/verify", 2**20), ("/generate", 65_536)):
        assert exact.client.post(path, content=bytes(most)).status_code == 422
        for content in (bytes(most + 1), in_chunks(bytes(most + 1))):
            over = exact.client.post(path, content=content)
            assert over.status_code == 413
            assert str(most) in over.json()["detail"]


def in_chunks(body: bytes) -> Iterator[bytes]:
    """The body in chunks, so that its size is not announced."""
    for start in range(0, len(body), 10_000):
        yield body[start : start + 10_000]


def test_a_picture_made_outside_reproducible_mode_is_reported_as_such(
    service: Running, exact: Running
) -> None:
    result = verdict(exact, generate(service, PICTURE).content)
    assert (result["verified"], result["bytes_equal"], result["reproducible"]) == (
        True,
        False,
        False,
    )
    assert "its reproducible is false, here it would be true" in str(result["reason"])


def test_verify_queues_and_is_refused_like_generate(pipeline_folder: Path) -> None:
    with (
        ThreadPoolExecutor() as pool,
        gated_service(pipeline_folder, max_queue_row_steps=4) as (running, runner),
    ):
        runner.let(2)
        file = generate(running, PICTURE).content
        first = pool.submit(verify, running, file)
        wait_until(lambda: running.queue_row_steps == 4)
        full = verify(running, file)
        assert full.status_code == 429
        assert int(full.headers["Retry-After"]) >= 1
        runner.open()
        assert first.result().json()["verified"] is True
        running.engine.drain()
        assert verify(running, file).status_code == 503
        for outcome in ("ok", "full", "unavailable"):
            labels = {"route": "/verify", "outcome": outcome}
            wait_until(lambda labels=labels: running.metric("dit_requests_total", **labels) == 1)  # type: ignore[misc]


kinds = st.sampled_from(
    [b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"tEXt", b"zTXt", b"acTL", b"\0\0\0\0"]
)
values = (
    st.none()
    | st.booleans()
    | st.integers(-2, 6)
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=8)
    | st.lists(st.floats(0, 1), min_size=2, max_size=2)
)
fields = st.sampled_from(
    ["class_label", "class_name", "cfg_scale", "sampler", "seed", "guidance_interval", "image_size"]
)


@settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_file_is_answered(exact: Running, file: bytes, data: st.DataObject) -> None:
    body = with_metadata(file, **data.draw(st.dictionaries(fields, values, max_size=2)))
    parts = chunks(body)
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(parts) - 1))
        kind, content = parts[place]
        cut = data.draw(st.integers(0, len(content)))
        change = content[:cut] + data.draw(st.binary(max_size=20)) + content[cut:][1:]
        parts.insert(place, (data.draw(st.just(kind) | kinds), change))
        if data.draw(st.booleans()):
            del parts[place + 1]
    answer = verify(exact, png_of(parts)[: data.draw(st.none() | st.integers(0, 600))])
    assert answer.status_code in (200, 422), answer.text
    if answer.status_code == 422:
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert "Traceback" not in answer.text


def test_afterwards_the_service_is_healthy(exact: Running, file: bytes) -> None:
    assert verdict(exact, file)["verified"] is True
    assert exact.queue_row_steps == 0
    assert exact.metric("dit_requests_total", route="/verify", outcome="failed") == 0
