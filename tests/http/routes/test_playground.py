"""The playground's files: small, whole, cached with care, and of this host alone."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

import service as package
from service.http.routes.playground import FOLDER, static_files
from tests.support.services import Running

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
MOST_BYTES = 80_000
"""Of the whole page on the wire, compressed as browsers ask for it."""

PARSE = """
const { SourceTextModule } = require("vm");
for (const file of process.argv.slice(1)) {
  new SourceTextModule(require("fs").readFileSync(file, "utf8"), { identifier: file });
}"""

FILES = sorted(path.name for path in FOLDER.iterdir())
MODULES = [name for name in FILES if name.endswith(".js") and name != "theme.js"]


def page(service: Running, **headers: str) -> httpx.Response:
    return service.client.get("/", headers={"accept": BROWSER} | headers)


def text_of(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def test_browsers_get_the_page_and_others_a_few_lines(service: Running) -> None:
    html, text = page(service), service.client.get("/")
    assert html.headers["content-type"] == "text/html; charset=utf-8"
    assert html.text == text_of("index.html")
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    assert "playground" in text.text
    for answer in (html, text):
        assert answer.headers["vary"] == "Accept, Accept-Encoding"
    head = service.client.head("/", headers={"accept": BROWSER})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == html.headers["etag"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_may_be_kept_but_is_asked_for_anew(service: Running, name: str) -> None:
    answer = service.client.get(f"/playground/{name}")
    assert answer.content == (FOLDER / name).read_bytes()
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"
    kept = {"if-none-match": answer.headers["etag"]}
    again = service.client.get(f"/playground/{name}", headers=kept)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == answer.headers["etag"]


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("app.js", "text/javascript; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ],
)
def test_types(service: Running, name: str, content_type: str) -> None:
    assert service.client.get(f"/playground/{name}").headers["content-type"] == content_type


@pytest.mark.parametrize(
    ("accepted", "gzipped"),
    [("gzip, br", True), ("br;q=1.0, gzip;q=0.5", True), ("gzip;q=0", False), ("identity", False)],
)
def test_files_are_compressed_for_those_who_take_it(
    service: Running, accepted: str, gzipped: bool
) -> None:
    headers = {"accept-encoding": accepted}
    answer = service.client.get("/playground/style.css", headers=headers)
    assert answer.content == (FOLDER / "style.css").read_bytes()
    assert ("content-encoding" in answer.headers) is gzipped
    assert answer.headers["etag"].endswith('-gzip"') is gzipped


def test_the_policy_lets_in_nothing_from_elsewhere(service: Running) -> None:
    policy = page(service).headers["content-security-policy"]
    rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
    assert rules["default-src"] == "'self'"
    assert rules["frame-ancestors"] == "'none'"
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fsettings.py", "%2e%2e/settings.py"])
def test_no_other_file_is_served(service: Running, name: str) -> None:
    assert service.client.get(f"/playground/{name}").status_code == 404


def test_no_file_names_another_host() -> None:
    for name in FILES:
        addresses = re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"']*", text_of(name))
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}, name


def test_the_whole_page_is_small() -> None:
    assert sum(len(file.gzipped) for file in static_files().values()) < MOST_BYTES


def test_every_file_is_used_and_every_one_used_is_there() -> None:
    """Also every element and icon that a module asks for by name."""
    html = text_of("index.html")
    scripts = {name: text_of(name) for name in MODULES}
    imported = {each for text in scripts.values() for each in re.findall(r'"\./(\w+\.js)"', text)}
    linked = set(re.findall(r'(?:src|href)="playground/([\w.]+)"', html))
    assert imported | linked | {"index.html"} == set(FILES)
    ids = set(re.findall(r'\bid="([\w-]+)"', html))
    for name, text in scripts.items():
        assert set(re.findall(r'\$\("([\w-]+)"\)', text)) <= ids, name
        icons = {f"i-{each}" for each in re.findall(r'\bicon(?:Button)?\("(\w+)"', text)}
        assert icons <= ids, name


def test_every_module_parses() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    options = ["--experimental-vm-modules", "--no-warnings", "--eval", PARSE]
    command = [node, *options, *(str(FOLDER / name) for name in MODULES)]
    result = subprocess.run(command, text=True, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_files_are_part_of_the_package() -> None:
    assert FOLDER.parent == Path(package.__file__).parent
