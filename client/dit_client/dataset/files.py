"""Files: written whole or not at all, and a lock that keeps a second run out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = ".part"
"""The end of the name of a file that is being written."""


class Locked(Exception):
    """Another process holds the lock."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file; whoever looks sees the old one or all of the new one."""
    part = path.with_name(path.name + TEMPORARY)
    part.write_bytes(content)
    part.replace(path)


def sync(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on a file, which is made if it is not there. It ends with the process, too.

    Raises:
        Locked: another process has it.
    """
    with path.open("a") as file:
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Locked(f"another process is writing to {path.parent}") from None
        yield
