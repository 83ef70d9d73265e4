"""Photographs: a folder of class folders as one tensor of pixels with labels and a held-out part."""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
HELD_OUT_FRACTION = 0.1


@dataclass(frozen=True, slots=True)
class Photographs:
    """Pixels in memory: ``images`` is uint8 (N, 3, S, S), ``labels`` int64 (N,), ``held_out`` bool (N,).

    ``files`` gives the path of each image, ``class_names`` the name of each label.
    """

    images: Tensor
    labels: Tensor
    held_out: Tensor
    class_names: tuple[str, ...]
    files: tuple[Path, ...]

    def part(self, *, held_out: bool) -> tuple[Tensor, Tensor]:
        """Return (images, labels) of the held-out photographs or of the training photographs."""
        chosen = self.held_out if held_out else ~self.held_out
        return self.images[chosen], self.labels[chosen]


def class_names(folder: Path) -> tuple[str, ...]:
    """Return the names of the class folders in the order of their labels.

    Raises:
        ValueError: there is no class folder.
    """
    entries = folder.iterdir() if folder.is_dir() else ()
    names = sorted(path.name for path in entries if path.is_dir())
    if not names:
        raise ValueError(f"{folder} contains no class folder")
    return tuple(names)


def load_photographs(folder: Path, image_size: int, leave_out: Sequence[str] = ()) -> Photographs:
    """Read all pictures below ``folder``, which has one sub-folder per class, in the order of their names.

    Files whose path below ``folder`` matches a pattern of ``leave_out``, e.g. ``Plum/r_*``, are skipped.

    The last tenth of each run of frames is held out. Neighbouring frames of one rotation are nearly
    the same picture, so holding out random frames would measure nothing. A run is the files of one
    class whose names differ only in their first number.

    Raises:
        ValueError: there is no class folder, a class folder has no picture, a picture cannot be read, or a pattern
            matches none.
    """
    skipped = _matching_files(folder, leave_out)
    names = class_names(folder)
    images, labels, held_out, files = [], [], [], []
    for label, name in enumerate(names):
        for run in _runs(folder / name, skipped):
            kept = len(run) - int(len(run) * HELD_OUT_FRACTION)
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


def photographs_from(options: argparse.Namespace) -> Photographs:
    """Read the photographs that the command line names.

    Raises:
        ValueError: see `load_photographs`.
    """
    return load_photographs(options.data, options.image_size, options.leave_out)


def _matching_files(folder: Path, patterns: Sequence[str]) -> set[Path]:
    matches = {pattern: set(folder.glob(pattern)) for pattern in patterns}
    for pattern, paths in matches.items():
        if not paths:
            raise ValueError(f"no picture below {folder} matches {pattern!r}, given to leave out")
    return set().union(*matches.values())


def _runs(class_folder: Path, skipped: set[Path]) -> Iterable[list[Path]]:
    found = (path for path in class_folder.iterdir() if path.suffix.lower() in SUFFIXES)
    pictures = [path for path in found if path not in skipped]
    if not pictures:
        raise ValueError(f"{class_folder} contains no picture ({', '.join(sorted(SUFFIXES))})")
    runs: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(pictures, key=_natural):
        runs[re.sub(r"\d+", "#", path.name, count=1)].append(path)
    return runs.values()


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key that puts frame 10 after frame 9."""
    return [
        (int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)
    ]


def _read(path: Path, image_size: int) -> np.ndarray:
    """Return the picture's centre square as uint8 (S, S, 3).

    It is turned as its EXIF orientation says; what is transparent becomes white.
    """
    try:
        with Image.open(path) as picture:
            rgb = _on_white(ImageOps.exif_transpose(picture))
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as a picture: {error}") from error
    side = min(rgb.size)
    left, top = (rgb.width - side) // 2, (rgb.height - side) // 2
    square = rgb.crop((left, top, left + side, top + side))
    if side != image_size:
        square = square.resize((image_size, image_size), Image.Resampling.LANCZOS)
    return np.asarray(square)


def _on_white(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
