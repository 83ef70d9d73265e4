"""What `make` installs: the service alone for `make run`, and the rest for the targets that need it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE, TRAIN, DEV = "--editable . ", "--editable .[train]", "--group dev"
CLIENT = "--editable ./client"
EVERY = (CORE, TRAIN, DEV, CLIENT)
INDEX = "https://example.org/whl/cu126"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@pytest.fixture(autouse=True)
def _as_the_first_make(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make test` passes its flags and variables on to every make below it."""
    for name in ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "ARGS", "TORCH_INDEX"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "client").mkdir()
    shutil.copy(ROOT / "client/pyproject.toml", tmp_path / "client")
    return tmp_path


def planned(checkout: Path, *arguments: str) -> str:
    """The commands that make would run."""
    return subprocess.run(
        ["make", "--dry-run", *arguments], cwd=checkout, capture_output=True, text=True, check=True
    ).stdout


def installed(checkout: Path, *stamps: str) -> None:
    (checkout / ".venv").mkdir()
    for stamp in stamps:
        (checkout / ".venv" / stamp).touch()


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("install", {CORE}),
        ("run", {CORE}),
        ("train", {CORE, TRAIN}),
        ("client", {CORE, CLIENT}),
        ("test", {CORE, CLIENT, DEV}),
        ("lint", {CORE, CLIENT, DEV}),
        ("bench", {CORE, CLIENT, DEV}),
        ("gpu-check", {CORE, CLIENT, DEV}),
        ("contact-sheet", {CORE, CLIENT, DEV}),
    ],
)
def test_a_target_installs_what_it_needs(checkout: Path, target: str, expected: set[str]) -> None:
    commands = planned(checkout, target)
    assert {part for part in EVERY if part in commands} == expected


def test_targets_add_to_each_other_in_either_order(checkout: Path) -> None:
    installed(checkout, ".installed")
    assert "pip install" not in planned(checkout, "run")
    assert DEV in planned(checkout, "test")
    assert CORE not in planned(checkout, "test")
    for stamp in (".installed-client", ".installed-dev"):
        (checkout / ".venv" / stamp).touch()
    for target in ("run", "test", "lint"):
        assert "pip install" not in planned(checkout, target)


def test_new_requirements_are_installed_again(checkout: Path) -> None:
    installed(checkout, ".installed", ".installed-client", ".installed-dev")
    commands = planned(checkout, "-W", "pyproject.toml", "test")
    assert {part for part in EVERY if part in commands} == {CORE, CLIENT, DEV}
    commands = planned(checkout, "-W", "client/pyproject.toml", "test")
    assert {part for part in EVERY if part in commands} == {CLIENT, DEV}


def test_another_index_replaces_torch_once(checkout: Path) -> None:
    installed(checkout, ".installed")
    replacing = f'--force-reinstall --index-url "{INDEX}" torch'
    assert replacing in planned(checkout, "install", f"TORCH_INDEX={INDEX}")
    (checkout / ".venv" / ".torch-index").write_text(f"{INDEX}\n")
    assert "pip install" not in planned(checkout, "run", f"TORCH_INDEX={INDEX}")
    assert "pip install" not in planned(checkout, "run")


def test_packages_are_counted_and_a_failure_shows_the_end_of_the_log(checkout: Path) -> None:
    installed(checkout)
    pip = checkout / "pip"
    makefile = f"include Makefile\nPIP := {pip}\nit: ; @$(call install-quietly,x)\n"
    (checkout / "outer.mk").write_text(makefile)
    lines = "\n".join(f"echo Collecting p{i}; echo '  Downloading p{i}'" for i in range(30))
    for code in (0, 3):
        pip.write_text(f"#!/bin/sh\n{lines}\necho why it failed >&2\nexit {code}\n")
        pip.chmod(0o755)
        done = subprocess.run(
            ["make", "-f", "outer.mk", "it"], cwd=checkout, capture_output=True, check=False
        )
        shown = done.stdout.decode()
        assert shown.startswith("\r   1 packages\r   2 packages")
        assert "\r   30 packages\n" in shown
        assert ("why it failed" in shown) is bool(code)
        assert ("Downloading p29" in shown) is bool(code)
        assert "Downloading p0\n" not in shown
        assert bool(done.returncode) is bool(code)
