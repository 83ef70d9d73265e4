"""One image of every class of the model in DIT_MODEL, generated through the service's API.

python -m docs.contact_sheet docs/contact-sheet.png
"""

from __future__ import annotations

import argparse
import io
import json
import os
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, ImageDraw

from bench.load.servers import PORT, ServerSpec, running_server

COLUMNS = 9
MARGIN = 6
TEXT_HEIGHT = 14
MIN_WIDTH = 104  # pixels of a tile, so that names fit
MAX_SIDE = 128  # pixels of an image; larger ones are scaled down
CLIENTS = 16


def picture_of(url: str, class_id: int, seed: int) -> Image.Image:
    """One image of a class with the service's default settings."""
    body = json.dumps({"class_label": class_id, "seed": seed}).encode()
    request = urllib.request.Request(
        f"{url}/generate", body, {"Content-Type": "application/json", "Accept": "image/png"}
    )
    with urllib.request.urlopen(request) as answer:
        return Image.open(io.BytesIO(answer.read()))


def sheet(names: list[str], pictures: list[Image.Image]) -> Image.Image:
    """The images in rows, each with its name below."""
    side = min(pictures[0].width, MAX_SIDE)
    tile = max(side, MIN_WIDTH)
    width, height = tile + MARGIN, side + TEXT_HEIGHT + MARGIN
    rows = -(-len(names) // COLUMNS)
    canvas = Image.new("RGB", (COLUMNS * width + MARGIN, rows * height + MARGIN), "white")
    draw = ImageDraw.Draw(canvas)
    for place, (name, picture) in enumerate(zip(names, pictures)):
        x, y = MARGIN + place % COLUMNS * width, MARGIN + place // COLUMNS * height
        canvas.paste(picture.resize((side, side)), (x + (tile - side) // 2, y))
        label = _fitting(draw, name, tile)
        draw.text((x + (tile - draw.textlength(label)) / 2, y + side), label, fill="black")
    return canvas


def _fitting(draw: ImageDraw.ImageDraw, name: str, width: int) -> str:
    while draw.textlength(name) > width:
        name = name[:-1]
    return name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    service = ServerSpec("service", environment=os.environ | {"DIT_PORT": PORT})
    with running_server(service) as server, ThreadPoolExecutor(CLIENTS) as pool:
        with urllib.request.urlopen(f"{server.url}/classes") as answer:
            classes = json.load(answer)
        asked = [(server.url, entry["id"], options.seed) for entry in classes]
        pictures = list(pool.map(picture_of, *zip(*asked)))
    sheet([entry["name"] for entry in classes], pictures).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
