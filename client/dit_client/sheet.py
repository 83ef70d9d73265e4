"""Sheet: images of every combination of one or two varied parameters, labelled, as one picture."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont

GAP = 6
MIN_TILE, MAX_TILE = 96, 256
"""Pixels of a tile's side: small images are enlarged by a whole factor, large ones made smaller."""

BACKGROUND, INK = "white", "black"
LABELS = {
    "class_label": "",
    "seed": "seed ",
    "cfg_scale": "guidance ",
    "num_sampling_steps": "steps ",
    "sampler": "",
    "quality": "",
}
"""The parameters that can be varied, and what a label says in front of a value."""

Value = int | float | str
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class Axis:
    """A parameter and its values."""

    field: str
    values: tuple[Value, ...]

    def labels(self) -> list[str]:
        prefix = LABELS[self.field]
        return [f"{prefix}{v:g}" if isinstance(v, float) else f"{prefix}{v}" for v in self.values]


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows and columns of a sheet. Without columns, the rows' values fill the sheet line by line."""

    rows: Axis
    columns: Axis | None

    @property
    def cells(self) -> list[dict[str, Value]]:
        """What each image is asked for with, row by row."""
        axes = [axis for axis in (self.rows, self.columns) if axis is not None]
        values = product(*(axis.values for axis in axes))
        return [dict(zip((axis.field for axis in axes), each)) for each in values]


def grid_of(axes: Sequence[Axis]) -> Grid:
    """The grid of the parameters that have several values; of the first, if none has.

    Raises:
        ValueError: more than two have.
    """
    varied = [axis for axis in axes if len(axis.values) > 1]
    if len(varied) > 2:
        names = ", ".join(axis.field for axis in varied)
        raise ValueError(f"a sheet has two sides, and {len(varied)} parameters vary: {names}")
    if len(varied) == 2:
        return Grid(*varied)
    return Grid((varied or list(axes))[0], None)


def draw_sheet(grid: Grid, files: Sequence[bytes]) -> Pictures.Image:
    """The sheet of these images, one for each cell of the grid."""
    pictures = [_decoded(file) for file in files]
    tile = _tile_size(max(max(picture.size) for picture in pictures))
    tiles = [_fitted(picture, tile) for picture in pictures]
    if grid.columns is None:
        return _captioned(grid.rows.labels(), tiles, tile)
    return _table(grid.rows.labels(), grid.columns.labels(), tiles, tile)


def png_of(sheet: Pictures.Image) -> bytes:
    buffer = io.BytesIO()
    sheet.save(buffer, "png", optimize=True)
    return buffer.getvalue()


def _table(
    rows: list[str], columns: list[str], tiles: list[Pictures.Image], tile: int
) -> Pictures.Image:
    font = _font()
    text_height = _height(font)
    margin = min(math.ceil(max(map(font.getlength, rows))), 2 * MAX_TILE)
    left, top = margin + 2 * GAP, text_height + 2 * GAP
    step = tile + GAP
    canvas = _canvas(left + len(columns) * step, top + len(rows) * step)
    draw = ImageDraw.Draw(canvas)
    for x, label in enumerate(columns):
        _centered(draw, (left + x * step, GAP), tile, label, font)
    for y, label in enumerate(rows):
        words = _shortened(label, margin, font)
        place = (left - GAP - font.getlength(words), top + y * step + (tile - text_height) // 2)
        draw.text(place, words, fill=INK, font=font)
    for place, picture in zip(_places(len(columns)), tiles):
        canvas.paste(picture, (left + place[0] * step, top + place[1] * step))
    return canvas


def _captioned(labels: list[str], tiles: list[Pictures.Image], tile: int) -> Pictures.Image:
    font = _font()
    across = math.ceil(math.sqrt(len(tiles)))
    width, height = tile + GAP, tile + _height(font) + 2 * GAP
    canvas = _canvas(GAP + across * width, GAP + -(-len(tiles) // across) * height)
    draw = ImageDraw.Draw(canvas)
    for (x, y), label, picture in zip(_places(across), labels, tiles):
        left, top = GAP + x * width, GAP + y * height
        canvas.paste(picture, (left, top))
        _centered(draw, (left, top + tile + GAP // 2), tile, label, font)
    return canvas


def _places(across: int) -> Iterator[tuple[int, int]]:
    """Column and row, line by line."""
    number = 0
    while True:
        yield number % across, number // across
        number += 1


def _canvas(width: int, height: int) -> Pictures.Image:
    return Pictures.new("RGB", (width, height), BACKGROUND)


def _decoded(file: bytes) -> Pictures.Image:
    with Pictures.open(io.BytesIO(file)) as picture:
        return picture.convert("RGB")


def _tile_size(side: int) -> int:
    return min(side * max(1, math.ceil(MIN_TILE / side)), MAX_TILE)


def _fitted(picture: Pictures.Image, tile: int) -> Pictures.Image:
    larger = tile > picture.width
    method = Pictures.Resampling.NEAREST if larger else Pictures.Resampling.LANCZOS
    return picture if picture.size == (tile, tile) else picture.resize((tile, tile), method)


def _font() -> Font:
    return ImageFont.load_default(size=13)


def _height(font: Font) -> int:
    return math.ceil(font.getbbox("Ag")[3])


def _centered(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], width: int, text: str, font: Font
) -> None:
    words = _shortened(text, width, font)
    left = corner[0] + (width - font.getlength(words)) / 2
    draw.text((left, corner[1]), words, fill=INK, font=font)


def _shortened(text: str, width: int, font: Font) -> str:
    if font.getlength(text) <= width:
        return text
    fits: Callable[[str], bool] = lambda words: font.getlength(f"{words}…") <= width
    while text and not fits(text):
        text = text[:-1]
    return f"{text}…"
