"""Make a contact sheet: one picture of every class of DIT_MODEL, requested from the service.

    python docs/contact_sheet.py docs/contact-sheet.png

Starts the service on a free port, requests one image per class and stops it.
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
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageDraw

COLUMNS = 9
MARGIN = 6
TEXT_HEIGHT = 14
MIN_TILE_WIDTH = 104  # pixels, so that names fit
MAX_SIDE = 128  # pixels; larger images are scaled down
CLIENTS = 16


@contextmanager
def running_service() -> Iterator[str]:
    """Start the service on a free port, wait until it is ready, and stop it at the end of the block.

    Yields its URL.
    """
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


def request_picture(url: str, class_id: int, seed: int) -> Image.Image:
    """One image of a class, with the service's default settings."""
    body = json.dumps({"class_label": class_id, "seed": seed}).encode()
    request = urllib.request.Request(
        f"{url}/generate", body, {"Content-Type": "application/json", "Accept": "image/png"}
    )
    with urllib.request.urlopen(request) as answer:
        return Image.open(io.BytesIO(answer.read()))


def contact_sheet(names: Sequence[str], pictures: Sequence[Image.Image]) -> Image.Image:
    """The pictures in rows, each with its name below."""
    side = min(pictures[0].width, MAX_SIDE)
    tile_width = max(side, MIN_TILE_WIDTH)
    column_width, row_height = tile_width + MARGIN, side + TEXT_HEIGHT + MARGIN
    rows = -(-len(names) // COLUMNS)
    size = (COLUMNS * column_width + MARGIN, rows * row_height + MARGIN)
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for i, (name, picture) in enumerate(zip(names, pictures)):
        x = MARGIN + i % COLUMNS * column_width
        y = MARGIN + i // COLUMNS * row_height
        canvas.paste(picture.resize((side, side)), (x + (tile_width - side) // 2, y))
        label = _shortened(draw, name, tile_width)
        text_x = x + (tile_width - draw.textlength(label)) / 2
        draw.text((text_x, y + side), label, fill="black")
    return canvas


def _shortened(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """The text, cut at its end until it fits."""
    while draw.textlength(text) > width:
        text = text[:-1]
    return text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="FILE", help="the image to write")
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="seed of all images (default %(default)s)"
    )
    options = parser.parse_args()
    with running_service() as url, ThreadPoolExecutor(CLIENTS) as pool:
        with urllib.request.urlopen(f"{url}/classes") as answer:
            classes = json.load(answer)
        pictures = list(
            pool.map(lambda entry: request_picture(url, entry["id"], options.seed), classes)
        )
    names = [entry["name"] for entry in classes]
    contact_sheet(names, pictures).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
