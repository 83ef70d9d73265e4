"""Encoding: the files carry their parameters, and their bytes repeat."""

from __future__ import annotations

import io
import json
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service import __version__
from service.images.encoding import EXIF_IFD, EXIF_USER_COMMENT, OutputFormat, encode
from service.images.parameters import ImageParameters
from tests.support.checkpoints import write_pipeline
from tests.support.requests import PICTURE, generate, picture
from tests.support.services import Running, load_small_runner, running_service

PARAMETERS = ImageParameters(
    class_label=207,
    class_name="golden retriever",
    cfg_scale=4.0,
    num_sampling_steps=50,
    sampler="ddim",
    seed=1234,
    guidance_interval=(0.0, 1.0),
    image_size=16,
    model="DiT-XL-2-256",
    model_digest="0123456789abcdef" * 4,
    dtype="bfloat16",
    reproducible=True,
    version="1.2.3",
)
LOSSY = ("webp", "jpeg")


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def png_chunks(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The name and content of every chunk, after checking its checksum."""
    place = 8
    while place < len(file):
        (size,) = struct.unpack(">I", file[place : place + 4])
        name, content = file[place + 4 : place + 8], file[place + 8 : place + 8 + size]
        (checksum,) = struct.unpack(">I", file[place + 8 + size : place + 12 + size])
        assert checksum == zlib.crc32(name + content)
        yield name, content
        place += 12 + size


def in_exif(file: bytes) -> dict[str, object]:
    """The JSON in the EXIF of a WebP or JPEG."""
    comment = Image.open(io.BytesIO(file)).getexif().get_ifd(EXIF_IFD)[EXIF_USER_COMMENT]
    assert comment.startswith(b"ASCII\0\0\0")
    content = json.loads(comment[8:])
    assert isinstance(content, dict)
    return content


def test_a_png_keeps_the_pixels() -> None:
    decoded = np.asarray(Image.open(io.BytesIO(encode(pixels(), "png", PARAMETERS))))
    assert np.array_equal(decoded, pixels())


@pytest.mark.parametrize("output_format", LOSSY)
def test_a_lossy_file_is_close_to_the_pixels(output_format: OutputFormat) -> None:
    smooth = np.full((16, 16, 3), (200, 120, 40), dtype=np.uint8)
    decoded = np.asarray(Image.open(io.BytesIO(encode(smooth, output_format, PARAMETERS))))
    assert np.abs(decoded.astype(int) - smooth).max() <= 4


@pytest.mark.parametrize("output_format", LOSSY)
def test_a_lossy_file_loses_little_of_a_textured_picture(output_format: OutputFormat) -> None:
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((64, 64), Image.Resampling.BICUBIC)).astype(int)
    textured = (smooth + random.integers(-12, 13, (64, 64, 1))).clip(0, 255).astype(np.uint8)
    decoded = np.asarray(Image.open(io.BytesIO(encode(textured, output_format, PARAMETERS))))
    error = np.square(decoded.astype(float) - textured).mean()
    assert 10 * np.log10(255**2 / error) > 39  # dB; quality 90 is 36 to 38.7, 75 is 32


def test_a_png_carries_its_parameters() -> None:
    text = Image.open(io.BytesIO(encode(pixels(), "png", PARAMETERS))).info
    assert text["parameters"] == (
        "golden retriever\n"
        "Steps: 50, Sampler: ddim, CFG scale: 4.0, Seed: 1234, Size: 16x16, "
        "Model: DiT-XL-2-256, Model hash: 0123456789, Class: 207"
    )
    assert json.loads(text["dit"]) == {
        "class_label": 207,
        "class_name": "golden retriever",
        "cfg_scale": 4.0,
        "num_sampling_steps": 50,
        "sampler": "ddim",
        "seed": 1234,
        "guidance_interval": [0.0, 1.0],
        "image_size": 16,
        "model": "DiT-XL-2-256",
        "model_digest": "0123456789abcdef" * 4,
        "dtype": "bfloat16",
        "reproducible": True,
        "version": "1.2.3",
    }


def test_a_png_has_three_text_chunks_and_no_timestamp() -> None:
    names = [name for name, _ in png_chunks(encode(pixels(), "png", PARAMETERS))]
    assert names == [b"IHDR", b"tEXt", b"tEXt", b"iTXt", b"IDAT", b"IEND"]


@pytest.mark.parametrize("output_format", LOSSY)
def test_webp_and_jpeg_carry_the_same_json(output_format: OutputFormat) -> None:
    in_png = Image.open(io.BytesIO(encode(pixels(), "png", PARAMETERS))).info["dit"]
    assert in_exif(encode(pixels(), output_format, PARAMETERS)) == json.loads(in_png)


@pytest.mark.parametrize("output_format", ["png", *LOSSY])
def test_bytes_repeat_and_depend_on_the_parameters(output_format: OutputFormat) -> None:
    file = encode(pixels(), output_format, PARAMETERS)
    assert encode(pixels(), output_format, PARAMETERS) == file
    assert encode(pixels(), output_format, replace(PARAMETERS, seed=1)) != file


@pytest.mark.parametrize("name", ["Käse", "りんご", "яблоко, красное", "🍌", "a\nb", "x" * 5000])
@pytest.mark.parametrize("output_format", ["png", *LOSSY])
def test_any_class_name_survives_encoding(name: str, output_format: OutputFormat) -> None:
    file = encode(pixels(), output_format, replace(PARAMETERS, class_name=name))
    if output_format == "png":
        info = Image.open(io.BytesIO(file)).info
        assert info["parameters"].startswith(f"{name}\nSteps: 50")
        assert json.loads(info["dit"])["class_name"] == name
    else:
        assert in_exif(file)["class_name"] == name


@pytest.mark.parametrize(
    ("model", "written"),
    [
        ("fruit, v2: final", '"fruit, v2: final"'),
        ("fruit: final", '"fruit: final"'),
        ("a,b", '"a,b"'),
        ('"quoted"', r'"\"quoted\""'),
        ('5" disc', '5" disc'),
        (" padded ", '" padded "'),
        ("two\nlines", r'"two\nlines"'),
        ("two\u2028lines", r'"two\u2028lines"'),
        ("\x1b[31m", r'"\u001b[31m"'),
        ("obst, größe: 2", '"obst, größe: 2"'),
        ("りんご", "りんご"),
        ("back\\slash, comma", r'"back\\slash, comma"'),
    ],
)
def test_a_value_with_separators_is_quoted_on_the_line(model: str, written: str) -> None:
    """As web UIs write it, so that their reader finds the settings after it."""
    prompt, settings = replace(PARAMETERS, model=model).as_line().split("\n")
    assert (prompt, f"Model: {written}, Model hash:" in settings) == ("golden retriever", True)
    read = dict(re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', settings))
    value = read["Model"]
    assert (json.loads(value) if value[0] == value[-1] == '"' else value) == model
    assert (read["Model hash"], read["Class"]) == ("0123456789", "207")


def test_a_generated_picture_carries_its_parameters(service: Running) -> None:
    body = PICTURE | {"cfg_scale": 2, "class_label": "damson plum", "sampler": "dpmpp_2m"}
    made = json.loads(picture(generate(service, body)).info["dit"])
    model = service.client.get("/models").json()["data"][0]
    assert made == {
        "class_label": 2,
        "class_name": "plum",
        "cfg_scale": 2.0,
        "num_sampling_steps": 2,
        "sampler": "dpmpp_2m",
        "seed": 1,
        "guidance_interval": [0.0, 1.0],
        "image_size": 8,
        "model": model["id"],
        "model_digest": model["digest"],
        "dtype": "float32",
        "reproducible": False,
        "version": __version__,
    }
    for output_format in LOSSY:
        answer = generate(service, body | {"output_format": output_format})
        assert in_exif(answer.content) == made


def test_each_of_several_images_carries_its_own_seed(service: Running) -> None:
    content = generate(service, PICTURE | {"num_images": 2, "output_format": "webp"}).json()
    seeds = [each["seed"] for each in content["images"]]
    answers = [
        generate(service, PICTURE | {"seed": seed, "output_format": "webp"}) for seed in seeds
    ]
    assert [in_exif(answer.content)["seed"] for answer in answers] == seeds


def test_the_metadata_suffices_to_make_the_picture_again(service: Running) -> None:
    first = generate(service, {"class_label": "fig", "num_sampling_steps": 3})
    made = json.loads(picture(first).info["dit"])
    wanted = ("class_label", "cfg_scale", "num_sampling_steps", "sampler", "seed")
    again = {name: made[name] for name in (*wanted, "guidance_interval")}
    assert generate(service, again).content == first.content


def test_a_models_name_with_separators_is_quoted_and_verified(tmp_path: Path) -> None:
    folder = tmp_path / "fruit, v2: final"
    folder.mkdir()
    write_pipeline(folder)
    with running_service(lambda: load_small_runner(folder)) as running:
        for output_format in ("png", *LOSSY):
            file = generate(running, PICTURE | {"output_format": output_format}).content
            assert running.client.post("/verify", content=file).json()["verified"] is True
            if output_format == "png":
                line = Image.open(io.BytesIO(file)).info["parameters"]
                assert ', Model: "fruit, v2: final", Model hash: ' in line
