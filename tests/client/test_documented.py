"""The commands and programs in README.md, docs/client.md and client/README.md."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dit_client.cli.main import EXIT_CODES, dit
from tests.ops.test_documented_commands import ROOT, commands
from tests.support.services import Running, load_bundled_runner, running_service

PAGE = ROOT / "docs/client.md"
COMMANDS = [
    words[1:]
    for document in (ROOT / "README.md", PAGE)
    for words in commands(document)
    if words[0] == ".venv/bin/dit"
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_options_of_documented_commands_exist(words: list[str]) -> None:
    name, command, rest = dit.resolve_command(click.Context(dit), words)
    assert command is not None
    command.make_context(name, rest)


def test_every_exit_code_is_documented() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE.read_text(), re.MULTILINE)}
    assert documented == {0, 1, 130} | {code for _, code in EXIT_CODES}


@pytest.fixture(scope="module")
def bundled() -> Iterator[Running]:
    with running_service(load_bundled_runner) as running:
        yield running


@pytest.mark.slow
def test_every_documented_command_runs(bundled: Running, tmp_path: Path) -> None:
    assert len(COMMANDS) > 15
    for number, words in enumerate(COMMANDS):
        folder = tmp_path if words[0] == "verify" else tmp_path / str(number)
        folder.mkdir(exist_ok=True)
        done = ran(["-m", "dit_client", *words], bundled.url, folder)
        assert done.returncode == 0, (words, done.stderr)
        for image in folder.glob("banana.png"):
            image.replace(tmp_path / image.name)  # for `dit verify`


@pytest.mark.slow
@pytest.mark.parametrize("document", ["docs/client.md", "client/README.md"])
def test_every_program_runs(bundled: Running, tmp_path: Path, document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    programs = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert programs
    for program in programs:
        here = program.replace("http://127.0.0.1:8000", bundled.url)
        here = here.replace("AsyncClient()", f'AsyncClient("{bundled.url}")')
        done = ran(["-c", here], bundled.url, tmp_path)
        assert done.returncode == 0, done.stderr


def ran(arguments: list[str], url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"DIT_URL": url},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
