"""The playground after some use, as a picture for the README.

python -m docs.playground_screenshot docs/images/playground.png
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from bench.load.servers import PORT, ServerSpec, running_server

WIDTH, HEIGHT = 1280, 896
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CLASSES = (
    "Kiwi",
    "Pomegranate",
    "Lemon",
    "Plum",
    "Carambula",
    "Pineapple",
    "Clementine",
    "Raspberry",
)
LAST = "Strawberry"
COLOURS = 256


def draw(page: Page, name: str, seed: int, done: int) -> None:
    """Generate, and wait until the gallery has so many pictures."""
    settings = urlencode({"class": name, "quality": "balanced", "guidance": 1.5, "seed": seed})
    page.goto(f"{page.url.partition('#')[0]}#{settings}")
    page.keyboard.press("Control+Enter")
    page.locator(".tile:not(.pending)").nth(done).wait_for()


def screenshot(url: str, theme: str) -> bytes:
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path)
        page = browser.new_page(
            viewport={"width": WIDTH, "height": HEIGHT},
            color_scheme="dark" if theme == "dark" else "light",
        )
        page.goto(url + "/")
        page.locator("body.ready").wait_for(state="attached")
        for done, name in enumerate((*CLASSES, LAST)):
            draw(page, name, seed=done + 1, done=done)
        page.mouse.move(0, 0)
        page.wait_for_timeout(1000)  # until everything has faded in
        picture: bytes = page.screenshot()
        return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--theme", choices=("light", "dark"), default="light")
    options = parser.parse_args()
    service = ServerSpec("service", environment=os.environ | {"DIT_PORT": PORT})
    with running_server(service) as server:
        png = screenshot(server.url, options.theme)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    small = picture.quantize(palette=picture.quantize(COLOURS))  # this one dithers
    small.save(options.out, optimize=True)


if __name__ == "__main__":
    main()
