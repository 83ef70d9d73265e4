"""Write deploy/lock/base.txt, cuda.txt and ray.txt: every package of the image, with its version and hashes.

python -m deploy.lock; needs uv, and PyPI.

Versions are those of constraints.txt where it has them. torch and what only its CUDA build needs are
apart in cuda.txt, because a build for a CPU or an older driver takes them from PyTorch's own index;
what Ray Serve needs beside them is in ray.txt, for images that have it.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "lock"
BUILD = ("setuptools>=77",)
"""What builds our own wheel, and what torch.compile imports."""

CUDA = re.compile(r"torch|triton|cuda-.*|nvidia-.*")


def requirements(*extras: str) -> list[str]:
    """The image's direct dependencies, on Linux; those of more extras with them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    needed = [each for extra in ("otel", *extras) for each in optional[extra]]
    return [
        f"{each}; sys_platform == 'linux'" for each in (*project["dependencies"], *needed, *BUILD)
    ]


def resolved(lines: list[str]) -> str:
    """A lock of these requirements for every Python that the image may have."""
    with tempfile.NamedTemporaryFile("w", suffix=".in", encoding="utf-8") as file:
        file.write("\n".join(lines))
        file.flush()
        command = ["uv", "pip", "compile", file.name, "--constraint", "constraints.txt"]
        options = ["--universal", "--python-version", "3.11", "--generate-hashes"]
        quiet = ["--no-header", "--no-annotate", "--quiet"]
        done = subprocess.run(
            [*command, *options, *quiet], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
        )
    return done.stdout


def entries(lock: str) -> dict[str, str]:
    """The lines of each package, by its name."""
    found = re.finditer(r"^(\S+?)==.*(?:\n    .*)*\n?", lock, re.MULTILINE)
    return {each[1]: each[0].rstrip("\n") + "\n" for each in found}


def main() -> None:
    base = entries(resolved(requirements()))
    with_ray = entries(resolved(requirements("ray")))
    assert base.items() <= with_ray.items(), "Ray needs another version of a package in the image"
    for name, packages in (
        ("base", {each for each in base if not CUDA.fullmatch(each)}),
        ("cuda", {each for each in base if CUDA.fullmatch(each)}),
        ("ray", with_ray.keys() - base.keys()),
    ):
        chosen = [text for each, text in with_ray.items() if each in packages]
        text = "# Written by `make lock`.\n" + "".join(chosen)
        (FOLDER / f"{name}.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
