"""The base image: the real one where its registry is reached, else Debian's own Python in its place."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from deploy.image_check.buildah import Buildah

SUITE = "bookworm"
PACKAGES = "python3,python3-venv,ca-certificates"
STAND_IN = "localhost/stand-in:latest"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CERTIFICATES = "/etc/ssl/certs"


class NoBase(Exception):
    """There is no base image, and why."""


@dataclass(frozen=True, slots=True)
class Base:
    """What the build starts from: its image, torch's index, and what a build needs from this host."""

    image: str
    torch_index: str
    volumes: dict[Path, str] = field(default_factory=dict)
    note: str = ""


def base_of(buildah: Buildah, wanted: str) -> Base:
    """The image that the Dockerfile names, or a stand-in.

    Raises:
        NoBase: neither is to be had, and why.
    """
    if buildah.can_pull(wanted):
        return Base(wanted, CPU_INDEX)
    if shutil.which("debootstrap") is None:
        raise NoBase(f"{wanted} cannot be pulled, and there is no debootstrap for a stand-in")
    root = buildah.folder / "debian"
    if not (root / "usr/bin/python3").exists():
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    buildah.from_folder(root, STAND_IN)
    index, volumes = _local_torch(buildah.folder / "index", root / "usr/bin/python3")
    note = f"{wanted} cannot be pulled here: Debian's own Python stands in for it"
    return Base(STAND_IN, index, volumes | _pip_of_this_host(buildah.folder), note)


def _local_torch(folder: Path, python: Path) -> tuple[str, dict[Path, str]]:
    """An index of the torch wheels that pip finds on this host's disk, if any fits that Python."""
    tag = "cp" + python.resolve().name.removeprefix("python").replace(".", "")
    links = _pip_setting("global.find-links").split()
    wheels = [
        wheel
        for link in links
        for wheel in Path(link.removeprefix("file://")).glob(f"torch-*+cpu-{tag}-*.whl")
    ]
    if not wheels:
        return CPU_INDEX, {}
    page = folder / "torch"
    page.mkdir(parents=True, exist_ok=True)
    for wheel in wheels:
        (page / wheel.name).unlink(missing_ok=True)
        (page / wheel.name).symlink_to(f"/wheels/{wheel.name}")
    names = [html.escape(wheel.name, quote=True) for wheel in wheels]
    text = "".join(f'<a href="/wheels/{name}">{name}</a>\n' for name in names)
    (page / "index.html").write_text(f"<!DOCTYPE html>\n{text}", encoding="utf-8")
    return "file:///index", {folder: "/index", wheels[0].parent: "/wheels"}


def _pip_of_this_host(folder: Path) -> dict[Path, str]:
    """The index and certificates that pip uses here; a build must reach the same."""
    settings = {
        name: _pip_setting(f"global.{name}") for name in ("index-url", "cert", "trusted-host")
    }
    lines = [f"{name} = {value}" for name, value in settings.items() if value]
    config = folder / "pip.conf"
    config.write_text("\n".join(["[global]", *lines, ""]), encoding="utf-8")
    return {config: "/etc/pip.conf", Path(CERTIFICATES): CERTIFICATES}


def _pip_setting(name: str) -> str:
    done = subprocess.run(
        ["python3", "-m", "pip", "config", "get", name], check=False, capture_output=True, text=True
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def named_in(dockerfile: str) -> str:
    """The base image that a Dockerfile names."""
    (image,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", dockerfile, re.MULTILINE)
    return str(image)
