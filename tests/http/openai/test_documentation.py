"""The examples in docs/openai.md run as they stand."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.ops.test_documented_commands import commands
from tests.support.checkpoints import write_pipeline
from tests.support.services import Running, load_small_runner, running_service

PAGE = Path(__file__).parents[3] / "docs" / "openai.md"
ADDRESS = "http://127.0.0.1:8000"
FIRST, SECOND = re.findall(
    r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE
)


@pytest.fixture(scope="module")
def fruits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A small model with the names that the page asks for."""
    names = ("Banana", "Kiwi", "Lemon", "Apple", "Pear")
    folder = write_pipeline(tmp_path_factory.mktemp("fruits"), class_names=names)
    with running_service(lambda: load_small_runner(folder)) as running:
        yield running


def test_the_programs_save_pictures(
    fruits: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for program in (FIRST, SECOND):
        path = tmp_path / "program"
        path.write_text(program.replace(ADDRESS, fruits.url), encoding="utf-8")
        names = runpy.run_path(str(path), names)
    names["client"].close()
    files = [each.name for each in tmp_path.glob("*.png")]
    assert "banana-1.png" in files
    assert len(files) >= 4  # two bananas, and of the kiwi at least a preview and the picture
    for name in files:
        with Image.open(name) as image:
            assert image.size == (8, 8)


def test_the_command_gets_pictures(fruits: Running) -> None:
    (words,) = commands(PAGE)
    body = json.loads(words[words.index("-d") + 1])
    (address,) = [word for word in words if word.startswith(ADDRESS)]
    answer = fruits.client.post(address.removeprefix(ADDRESS), json=body)
    assert answer.status_code == 200
    assert len(answer.json()["data"]) == body["n"]


def test_the_error_has_the_members_that_are_shown(fruits: Running) -> None:
    (shown,) = re.findall(r'^    (\{"error".*\})$', PAGE.read_text("utf-8"), re.MULTILINE)
    path, body = "/v1/images/generations", {"prompt": "Kiwi", "size": "1x1"}
    error = fruits.client.post(path, json=body).json()["error"]
    expected = json.loads(shown)["error"]
    assert list(error)[:4] == list(expected)
    assert {name: error[name] for name in expected if name != "message"} == {
        name: value for name, value in expected.items() if name != "message"
    }
