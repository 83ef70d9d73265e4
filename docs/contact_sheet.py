"""A picture of every class of the model that DIT_MODEL names, through the service's own API.

    python docs/contact_sheet.py docs/contact-sheet.png

Starts a service on a free port, asks for one image a class, and ends it again.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageDraw

COLUMNS = 9
MARGIN = 6
TEXT_HEIGHT = 14
LEAST_WIDTH = 104  # pixels of a tile, so that names fit
MOST_SIDE = 128  # pixels of an image; larger ones are reduced
CLIENTS = 16


@contextmanager
def running_service() -> Iterator[str]:
    """Serve on a free port until the block ends; gives the URL once the service is ready."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    service = subprocess.Popen(
        [sys.executable, "-m", "service"], env=os.environ | {"DIT_PORT": str(port)}
    )
    try:
        while not _is_ready(url):
            if service.poll() is not None:
                sys.exit("the service did not start")
            time.sleep(0.5)
        yield url
    finally:
        service.terminate()
        service.wait()


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz"):
            return True
    except (urllib.error.URLError, ConnectionError):
        return False


def picture_of(url: str, class_id: int, seed: int) -> Image.Image:
    """One image of a class at the server's default settings."""
    body = json.dumps({"class_label": class_id, "seed": seed}).encode()
    request = urllib.request.Request(
        f"{url}/generate", body, {"Content-Type": "application/json", "Accept": "image/png"}
    )
    with urllib.request.urlopen(request) as answer:
        return Image.open(io.BytesIO(answer.read()))


def sheet(names: list[str], pictures: list[Image.Image]) -> Image.Image:
    """Tiles in rows, each above its name."""
    side = min(pictures[0].width, MOST_SIDE)
    tile = max(side, LEAST_WIDTH)
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
    with running_service() as url, ThreadPoolExecutor(CLIENTS) as pool:
        with urllib.request.urlopen(f"{url}/classes") as answer:
            classes = json.load(answer)
        pictures = list(pool.map(lambda entry: picture_of(url, entry["id"], options.seed), classes))
    sheet([entry["name"] for entry in classes], pictures).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
