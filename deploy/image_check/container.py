"""Container: an image's own command in namespaces of its own, as compose would start it.

The root file system is read-only and /tmp is in memory; the command is process 1, runs as the
image's user without capabilities and cannot gain any.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from deploy.image_check.buildah import ImageConfig

POLL_S = 0.05
FORK_S = 10.0
TMPFS = "nosuid,nodev,noexec,size=1g,mode=1777"


class NotRunning(Exception):
    """The container has ended, or is not healthy in time."""


class Container:
    """A started container.

    Args:
        root: its file system.
        config: of its image.
        environment: variables beside the image's own.
        log: where its standard error goes.
        mounts: folders that it may read, by their place in the container.
        alone: in a network of its own, which has a loopback and nothing else.
    """

    def __init__(
        self,
        root: Path,
        config: ImageConfig,
        environment: Mapping[str, str],
        log: Path,
        mounts: Mapping[str, Path] = MappingProxyType({}),
        alone: bool = False,
    ) -> None:
        self._root = root
        self._namespaces = ["--mount", "--pid", *(["--net"] if alone else [])]
        self._config = config
        self._mounts = mounts
        self._environment = config.environment | dict(environment)
        with log.open("wb") as file:
            self._unshare = subprocess.Popen(
                [
                    "unshare",
                    *self._namespaces,
                    "--fork",
                    "--kill-child",
                    "sh",
                    "-c",
                    self._script(),
                ],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        self.exited = self._unshare.poll

    def _script(self) -> str:
        root = shlex.quote(str(self._root))
        mounts = [
            f"mount --bind {root} {root}",
            f"mount --rbind /dev {root}/dev",
            f"mount -t proc proc {root}/proc",
            f"mount -t tmpfs -o {TMPFS} tmpfs {root}/tmp",
            *(["ip link set lo up"] if "--net" in self._namespaces else []),
        ]
        for place, folder in self._mounts.items():
            target = shlex.quote(f"{self._root}{place}")
            mounts += [
                f"mkdir -p {target}",
                f"mount --bind {shlex.quote(str(folder))} {target}",
                f"mount -o remount,bind,ro {target}",
            ]
        mounts.append(f"mount -o remount,bind,ro {root}")
        command = shlex.join(self._as_user(self._config.entrypoint))
        return " && ".join([*mounts, f"exec {command}"])

    def _as_user(self, command: list[str]) -> list[str]:
        """A command inside the root file system, with the rights of the image's user."""
        user, _, group = self._config.user.partition(":")
        rights = ["--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
        variables = [f"{name}={value}" for name, value in self._environment.items()]
        return [
            *["chroot", str(self._root)],
            *["setpriv", f"--reuid={user}", f"--regid={group}", *rights],
            *["env", "--ignore-environment", f"--chdir={self._config.working_dir}", *variables],
            *command,
        ]

    @property
    def pid(self) -> int:
        """Of the container's process 1, as this host numbers it."""
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        ends = time.monotonic() + FORK_S
        while self.exited() is None and time.monotonic() < ends:
            if pids := children.read_text().split():
                return int(pids[0])
            time.sleep(POLL_S)
        raise NotRunning(f"the container has ended with {self.exited()}")

    def exec(self, command: list[str]) -> int:
        """Run a command next to the service, as the engine runs a health check; its exit code."""
        return self.run(command).returncode

    def run(self, command: list[str]) -> subprocess.CompletedProcess[bytes]:
        """The same, with what it writes."""
        inside = ["nsenter", *self._namespaces, f"--target={self.pid}", *self._as_user(command)]
        return subprocess.run(inside, check=False, capture_output=True)

    def healthy(self) -> bool:
        """Whether the image's own health check passes."""
        kind, *command = self._config.health_check
        assert kind == "CMD", "the health check runs without a shell"
        return self.exec(command) == 0

    def wait_healthy(self, timeout_s: float) -> float:
        """Seconds until the health check passed.

        Raises:
            NotRunning: it did not in time, or the container has ended.
        """
        began = time.monotonic()
        while time.monotonic() - began < timeout_s and self.exited() is None:
            if self.healthy():
                return time.monotonic() - began
            time.sleep(POLL_S)
        raise NotRunning(f"not healthy after {time.monotonic() - began:.0f} s")

    def status(self) -> dict[str, str]:
        """What the kernel says of process 1: its user, capabilities and peak memory."""
        lines = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines()
        return {name: value.strip() for name, _, value in (each.partition(":") for each in lines)}

    def stop(self, timeout_s: float) -> int:
        """Send the image's stop signal and wait; the exit code."""
        number = signal.Signals[self._config.stop_signal]
        subprocess.run(["kill", f"-{number.value}", str(self.pid)], check=True)
        return self._unshare.wait(timeout_s)

    def wait(self, timeout_s: float) -> int:
        """Wait until it ends by itself; the exit code."""
        return self._unshare.wait(timeout_s)

    def kill(self) -> None:
        """End it, if it still runs."""
        self._unshare.kill()
        self._unshare.wait()
