"""Photographs: a folder of class folders as one tensor of pixels with labels and a held-out part."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
HELD_OUT_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Photographs:
    """Pixels in memory: ``images`` is uint8 (N, 3, S, S), ``labels`` int64 (N,), ``files`` N names."""

    images: Tensor
    labels: Tensor
    held_out: Tensor
    class_names: tuple[str, ...]
    files: tuple[Path, ...]

    def part(self, *, held_out: bool) -> tuple[Tensor, Tensor]:
        """Return (images, labels) of the held-out photographs or of those trained on."""
        chosen = self.held_out if held_out else ~self.held_out
        return self.images[chosen], self.labels[chosen]


def class_names(folder: Path) -> tuple[str, ...]:
    """Return the names of the class folders in the order of their labels.

    Raises:
        ValueError: there is no class folder.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if not names:
        raise ValueError(f"{folder} holds no class folder")
    return tuple(names)


def load_photographs(folder: Path, image_size: int, leave_out: Sequence[str] = ()) -> Photographs:
    """Read every picture below ``folder``, one class a sub-folder, in the order of their names.

    Those whose path below ``folder`` fits a pattern of ``leave_out``, ``Plum/r_*`` say, are not read.

    The last tenth of each run of frames is held out: neighbouring frames of one rotation are
    nearly the same picture, so single random frames would measure nothing. A run is the files of
    one class whose names differ in their first number alone.

    Raises:
        ValueError: there is no class folder, a class folder holds no picture, or a pattern fits none.
    """
    left_out = _fitting(folder, leave_out)
    names = class_names(folder)
    images, labels, held_out, files = [], [], [], []
    for label, name in enumerate(names):
        for run in _runs(folder / name, left_out):
            kept = len(run) - int(len(run) * HELD_OUT_SHARE)
            for position, path in enumerate(run):
                images.append(_read(path, image_size))
                labels.append(label)
                held_out.append(position >= kept)
                files.append(path)
    return Photographs(
        images=torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(),  # (N, 3, S, S)
        labels=torch.tensor(labels),
        held_out=torch.tensor(held_out),
        class_names=names,
        files=tuple(files),
    )


def _fitting(folder: Path, patterns: Sequence[str]) -> set[Path]:
    found = {pattern: set(folder.glob(pattern)) for pattern in patterns}
    for pattern, paths in found.items():
        if not paths:
            raise ValueError(f"no picture below {folder} fits {pattern!r}, which is to be left out")
    return set().union(*found.values())


def _runs(class_folder: Path, left_out: set[Path]) -> Iterable[list[Path]]:
    found = (path for path in class_folder.iterdir() if path.suffix.lower() in SUFFIXES)
    pictures = [path for path in found if path not in left_out]
    if not pictures:
        raise ValueError(f"{class_folder} holds no picture ({', '.join(sorted(SUFFIXES))})")
    runs: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(pictures, key=_natural):
        runs[re.sub(r"\d+", "#", path.name, count=1)].append(path)
    return runs.values()


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key in which frame 10 comes after frame 9."""
    return [
        (int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)
    ]


def _read(path: Path, image_size: int) -> np.ndarray:
    """Return the picture's centre square as uint8 (S, S, 3)."""
    with Image.open(path) as picture:
        rgb = picture.convert("RGB")
    side = min(rgb.size)
    left, top = (rgb.width - side) // 2, (rgb.height - side) // 2
    square = rgb.crop((left, top, left + side, top + side))
    if side != image_size:
        square = square.resize((image_size, image_size), Image.Resampling.LANCZOS)
    return np.asarray(square)
