"""The commands in README.md and docs/: they run as they are written, and git sees nothing they write."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from model.train import __main__ as recipe
from service.engine.class_catalogue import ClassCatalogue

ROOT = Path(__file__).parents[2]
GUIDES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
DOCUMENTS = [*GUIDES, ROOT / "model/bundled/README.md", ROOT / "client/README.md"]
RUNNERS = {".venv/bin/python", ".venv/bin/accelerate", ".venv/bin/dit"}
PROGRAMS = {"curl", "make", "docker", *RUNNERS}
BARE = {"python", "python3", "pip", "accelerate", "pytest", "dit"}
"""Those of the system, which know nothing of our packages."""

SAVING = {"-o", "--output", "-O", "--remote-name"}
WRITING = {"-o", "--out", "--json", "--page"}

each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS]
)


def commands(document: Path) -> list[list[str]]:
    """The words of every command in a block of code, without the variables in front of it."""
    text = document.read_text(encoding="utf-8")
    fenced = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    shown = [line[4:] for line in rest.splitlines() if line.startswith("    ")]
    return [
        shlex.split(each, comments=True) for each in _joined("".join(fenced).splitlines() + shown)
    ]


def _joined(lines: list[str]) -> list[str]:
    """The commands among lines of code; those of several lines, after a backslash or in quotes, as one."""
    whole: list[str] = []
    command = ""
    for line in lines:
        if not command:
            line = re.sub(r"^([A-Z_]+=\S+ +)*", "", line)
            if line.partition(" ")[0] not in PROGRAMS | BARE:
                continue
        command += line.removesuffix("\\") + "\n"
        if not line.endswith("\\") and command.count("'") % 2 == 0:
            whole.append(command)
            command = ""
    return whole


def curls(document: Path) -> list[list[str]]:
    return [words for words in commands(document) if words[0] == "curl"]


@each_document
def test_every_link_leads_somewhere(document: Path) -> None:
    text = re.sub(
        r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        page = (document.parent / path).resolve() if path else document
        assert page.exists(), target
        assert not anchor or anchor in _anchors(page), target


def _anchors(page: Path) -> list[str]:
    """What links to a page's headings end in."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings]


def test_every_kind_of_command_is_found() -> None:
    found = [words for document in DOCUMENTS for words in commands(document)]
    assert {words[0] for words in found} >= {"curl", "make", "docker", *RUNNERS}
    assert sum(1 for words in found if SAVING & set(words)) >= 5


@each_document
def test_a_command_names_the_environment_that_has_our_packages(document: Path) -> None:
    assert not [words for words in commands(document) if words[0] in BARE]


@each_document
def test_every_module_that_is_named_exists(document: Path) -> None:
    for module in re.findall(
        r"-m ((?:model|service|bench|docs)[\w.]*)", document.read_text("utf-8")
    ):
        assert importlib.util.find_spec(module.rstrip(".")), module


@each_document
def test_a_picture_that_is_saved_is_a_picture(document: Path) -> None:
    """Otherwise curl saves an error under the picture's name and exits with 0."""
    for words in curls(document):
        assert not SAVING & set(words) or "--fail-with-body" in words, words


@each_document
def test_the_classes_that_are_asked_for_exist_in_the_bundled_model(document: Path) -> None:
    labels = json.loads((ROOT / "model/bundled/model_index.json").read_text())["id2label"]
    catalogue = ClassCatalogue(tuple(label.split(", ")) for label in labels.values())
    for words in curls(document):
        if "-d" in words:
            body = json.loads(words[words.index("-d") + 1])
            catalogue.resolve(body["prompt" if "prompt" in body else "class_label"])


def test_a_model_of_ones_own_is_asked_for_a_class_that_any_model_has() -> None:
    (asked,) = [words for words in curls(ROOT / "docs/train-your-own.md") if "-d" in words]
    assert json.loads(asked[asked.index("-d") + 1])["class_label"] == 0


def test_the_options_of_documented_trainings_exist() -> None:
    found = [words for document in DOCUMENTS for words in commands(document)]
    trainings = [words[2] for words in found if words[:2] == ["make", "train"]]
    assert len(trainings) >= 2
    for words in trainings:
        recipe.options_parser().parse_args(shlex.split(words.removeprefix("ARGS=")))


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_git_ignores_what_the_documented_commands_write(tmp_path: Path) -> None:
    found = [shlex.split(" ".join(words)) for guide in GUIDES for words in commands(guide)]
    written = {
        re.sub("^ARGS=", "", after)
        for words in found
        for option, after in pairwise(words)
        if option in WRITING
    } | {"photographs/Apple/0.jpg", "runs/my-model.run/latents.pt"}
    assert len(written) >= 8
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    paths = sorted(each if "." in Path(each).name else f"{each}/file" for each in written)
    for each in paths:
        done = subprocess.run(["git", "-C", tmp_path, "check-ignore", "--quiet", each], check=False)
        assert done.returncode == 0, each
