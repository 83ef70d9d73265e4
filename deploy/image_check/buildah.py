"""Buildah: images built and unpacked in a storage of their own, without a daemon."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

PULL_S = 300
TOOLS = ("buildah", "unshare", "nsenter", "setpriv", "chroot")


def missing() -> str | None:
    """Why nothing can be built or run here; None if it can."""
    if os.geteuid() != 0:
        return "it needs root, to mount and to change the user"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"{', '.join(absent)} not found" if absent else None


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says about its containers, as the engine would apply it."""

    user: str
    entrypoint: list[str]
    environment: dict[str, str]
    working_dir: str
    health_check: list[str]
    stop_signal: str


class Buildah:
    """The program, with its images below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        storage = ["--root", str(folder / "root"), "--runroot", str(folder / "run")]
        self._command = ["buildah", *storage]

    def run(self, *arguments: str, timeout_s: float | None = None) -> str:
        """One command; returns its output.

        Raises:
            subprocess.CalledProcessError: it failed; what it says on standard error was shown.
        """
        done = subprocess.run(
            [*self._command, *arguments],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=timeout_s,
        )
        return done.stdout.strip()

    def can_pull(self, image: str) -> bool:
        """Whether an image is to be had from its registry."""
        command = [*self._command, "pull", "--quiet", f"docker.io/library/{image}"]
        try:
            done = subprocess.run(command, check=False, capture_output=True, timeout=PULL_S)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def from_folder(self, folder: Path, name: str) -> None:
        """An image of one layer with the contents of a folder."""
        container = self.run("from", "scratch")
        self.run("add", "--quiet", container, str(folder), "/")
        self.run("commit", "--quiet", "--rm", container, name)

    def config(self, image: str) -> ImageConfig:
        """The configuration in an image."""
        inspected = json.loads(self.run("inspect", "--type", "image", image))["Docker"]["config"]
        return ImageConfig(
            user=inspected["User"],
            entrypoint=inspected["Entrypoint"],
            environment=dict(each.split("=", 1) for each in inspected["Env"]),
            working_dir=inspected["WorkingDir"],
            health_check=inspected["Healthcheck"]["Test"],
            stop_signal=inspected["StopSignal"],
        )

    def unpack(self, image: str) -> Path:
        """A container's file system, mounted."""
        container = self.run("from", "--pull-never", image)
        return Path(self.run("mount", container))

    def close(self) -> None:
        """Unmount and remove every container and image."""
        self.run("umount", "--all")
        self.run("rm", "--all")
        self.run("rmi", "--all", "--force")
