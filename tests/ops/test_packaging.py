"""Packaging: the files around the code match it and each other."""

from __future__ import annotations

import glob
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import service
from bench.check.__main__ import STEPS

ROOT = Path(__file__).parents[2]
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "info": ["_info"]}

PUBLISHED = "${DIT_BIND:-127.0.0.1}:8000:8000"
"""The service's port: on the host's loopback, unless the user says otherwise."""

CODE = re.DOTALL | re.MULTILINE


def text_of(path: str | Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def pyproject(folder: str = ".") -> dict[str, dict[str, object]]:
    with (ROOT / folder / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


@pytest.mark.parametrize("package", ["model", "service"])
def test_data_files_go_into_the_wheel(package: str) -> None:
    setuptools = pyproject()["tool"]["setuptools"]
    assert isinstance(setuptools, dict)
    folder = ROOT / package
    packaged = {
        found
        for pattern in setuptools["package-data"].get(package, [])
        for found in glob.glob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207 (as setuptools)
    }
    files = {
        path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    data = {str(path.relative_to(folder)) for path in files if path.suffix != ".py"}
    assert data <= packaged


def test_every_dependency_is_pinned_within_its_range() -> None:
    tree = pyproject()
    declared = [
        *_strings(tree["project"]["dependencies"]),
        *_strings(tree["dependency-groups"]["dev"]),
        *_strings(tree["dependency-groups"]["gpu"]),
        *_strings(tree["dependency-groups"]["bench"]),
        *_strings(tree["dependency-groups"]["browser"]),
        *_strings(pyproject("client")["project"]["dependencies"]),
    ]
    lines = text_of("constraints.txt").splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    versions = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}
    assert not [
        version for version in versions.values() if "+" in version
    ]  # a local version, which other machines cannot install
    for requirement in map(Requirement, declared):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)])


def test_the_client_needs_no_torch() -> None:
    declared = _strings(pyproject("client")["project"]["dependencies"])
    needed = needed_by({Requirement(line).name for line in declared})
    assert "httpx" in needed
    assert not needed & {"torch", "numpy", "fastapi", "pydantic"}


def test_the_client_has_the_licence() -> None:
    assert text_of("client/LICENSE") == text_of("LICENSE")


def _strings(value: object) -> list[str]:
    assert isinstance(value, list)
    return [str(item) for item in value]


def test_version_is_the_same_everywhere() -> None:
    assert pyproject()["project"]["version"] == service.__version__
    assert f"\n## {service.__version__}" in text_of("CHANGELOG.md")


def test_make_targets_named_in_the_docs_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    for document in (ROOT / "README.md", *ROOT.glob("docs/*.md")):
        code = re.findall(r"```.*?```|`[^`\n]+`|^    [^\n]*", text_of(document), CODE)
        named = set(re.findall(r"(?<!install )\bmake ([a-z][a-z-]*)", "\n".join(code)))
        assert named <= targets, document.name


def test_the_steps_of_the_gpu_check_are_documented() -> None:
    listed = ", ".join(f"`{name}`" for name in STEPS)
    assert f"{listed} " in " ".join(text_of("docs/operations.md").split())
    words = [*list(STEPS)[:-2], " or ".join(list(STEPS)[-2:])]
    assert f"STEP={', '.join(words)} " in text_of("Makefile")


def test_wheels_for_a_gpu_host_leave_out_torch() -> None:
    recipe = text_of("Makefile").partition("define list-gpu-requirements\n")[2]
    command = recipe.partition("\nendef")[0].replace("$(BIN)/python", sys.executable)
    done = subprocess.run(
        ["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = {Requirement(line).name for line in done.stdout.splitlines()}
    declared = {Requirement(line).name for line in _strings(pyproject()["project"]["dependencies"])}
    assert declared - names == {"torch"}
    assert {"pytest", "httpx"} <= names
    assert "torch" not in needed_by(names)


def needed_by(names: set[str]) -> set[str]:
    """The packages that these need, and those need in turn."""
    found: set[str] = set()
    waiting = {canonicalize_name(name) for name in names}
    while waiting:
        name = waiting.pop()
        found.add(name)
        lines = metadata.requires(name) or []
        needs = [
            one
            for one in map(Requirement, lines)
            if one.marker is None or one.marker.evaluate({"extra": ""})
        ]
        waiting |= {canonicalize_name(one.name) for one in needs} - found
    return found
