"""Photographs that appear in two classes."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from model.train.data import duplicates
from model.train.data.photographs import load_photographs


def test_photographs_in_two_classes_are_reported(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(256, (7, 32, 32, 3), dtype=torch.uint8, generator=generator)
    far, near = noise[0] ^ 0b1000, noise[1] ^ 0b1  # each pixel 8 levels away, and 1
    classes: dict[str, list[Tensor]] = {
        "Cherry": [*noise[:3], noise[2]],
        "Plum": [noise[4], near, far],
        "Sloe": [*noise[5:]],
    }
    for name, pictures in classes.items():
        (tmp_path / name).mkdir()
        for frame, picture in enumerate(pictures):
            Image.fromarray(picture.numpy()).save(tmp_path / name / f"{frame}.png")
    assert duplicates.report(load_photographs(tmp_path, 32)).splitlines() == [
        "1 of 4 photographs of Cherry also appear in Plum: 1.png is 1.png there",
        "1 of 3 photographs of Plum also appear in Cherry: 1.png is 1.png there",
    ]
    for path in (tmp_path / "Plum").iterdir():
        path.unlink()
    Image.fromarray(noise[4].numpy()).save(tmp_path / "Plum" / "0.png")
    alone = duplicates.report(load_photographs(tmp_path, 32))
    assert alone == "no photograph appears in two classes"
