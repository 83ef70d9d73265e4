"""Reading a folder of class folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.train.data.photographs import load_photographs
from tests.train.pictures import paint


def test_the_last_tenth_of_each_run_is_held_out(tmp_path: Path) -> None:
    for frame in range(20):
        paint(tmp_path / "Pear" / f"{frame}_100.png", 2 * frame)
    for frame in range(10):
        paint(tmp_path / "Pear" / f"r_{frame}_100.png", 100 + 2 * frame)
    paint(tmp_path / "Apple" / "0_100.png", 7)
    photographs = load_photographs(tmp_path, 32)
    assert photographs.class_names == ("Apple", "Pear")
    assert photographs.labels.tolist() == [0] + [1] * 30
    held_out, labels = photographs.part(held_out=True)
    levels = held_out[:, 0].flatten(1).amin(1).tolist()
    assert levels == [36, 38, 118]  # frames 18 and 19 of the first run, 9 of the second
    assert labels.tolist() == [1, 1, 1]
    assert len(photographs.part(held_out=False)[0]) == 28


def test_photographs_are_cut_to_their_centre_square_and_resized(tmp_path: Path) -> None:
    picture = np.zeros((40, 120, 3), np.uint8)
    picture[:, 40:80] = (10, 200, 30)  # the centre square
    (tmp_path / "Kiwi").mkdir()
    Image.fromarray(picture).save(tmp_path / "Kiwi" / "1.png")
    images = load_photographs(tmp_path, 16).images
    assert images.shape == (1, 3, 16, 16)
    assert (images[0].amax((1, 2)).tolist(), images[0].amin((1, 2)).tolist()) == (
        [10, 200, 30],
        [10, 200, 30],
    )


def test_pictures_are_left_out_by_their_path(tmp_path: Path) -> None:
    for frame in range(10):
        paint(tmp_path / "Pear" / f"{frame}.png", 10)
        paint(tmp_path / "Pear" / f"r_{frame}.png", 20)
        paint(tmp_path / "Plum" / f"r_{frame}.png", 30)
    photographs = load_photographs(tmp_path, 32, ["Pear/r_*", "Plum/r_7.png"])
    names = [file.relative_to(tmp_path).as_posix() for file in photographs.files]
    assert names == [f"Pear/{i}.png" for i in range(10)] + [
        f"Plum/r_{i}.png" for i in range(10) if i != 7
    ]
    assert photographs.images[:, 0].flatten(1).amin(1).tolist() == [10] * 10 + [30] * 9
    with pytest.raises(ValueError, match=r"'Pear/q_\*'"):
        load_photographs(tmp_path, 32, ["Pear/r_*", "Pear/q_*"])


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no class folder"):
        load_photographs(tmp_path, 32)
    (tmp_path / "Empty").mkdir()
    with pytest.raises(ValueError, match="no picture"):
        load_photographs(tmp_path, 32)


def test_a_photograph_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[:, 8:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right
    (tmp_path / "Kiwi").mkdir()
    Image.fromarray(picture).save(tmp_path / "Kiwi" / "1.png", exif=exif)
    images = load_photographs(tmp_path, 16).images
    assert (int(images[0, :, :8].max()), int(images[0, :, 8:].min())) == (0, 255)


def test_what_is_transparent_becomes_white(tmp_path: Path) -> None:
    picture = np.zeros((16, 16, 4), np.uint8)
    picture[:, 8:] = (10, 20, 30, 255)
    (tmp_path / "Kiwi").mkdir()
    Image.fromarray(picture).save(tmp_path / "Kiwi" / "1.png")
    Image.fromarray(picture).quantize(4).save(tmp_path / "Kiwi" / "2.png")
    for image in load_photographs(tmp_path, 16).images:
        assert int(image[:, :, :8].min()) == 255
        assert image[:, :, 8:].amax((1, 2)).tolist() == [10, 20, 30]


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    paint(tmp_path / "Kiwi" / "1.png", 10)
    (tmp_path / "Kiwi" / "2.jpg").write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"2\.jpg cannot be read as a picture"):
        load_photographs(tmp_path, 16)
