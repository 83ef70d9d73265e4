"""Held files: a file that is opened once, and read as often as needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model.weights.errors import CheckpointError

_DESCRIPTORS = Path("/proc/self/fd")


@contextmanager
def hold(path: Path) -> Iterator[Path]:
    """A path to the file that has this name now, whatever has the name later.

    Where there is no /proc, it is the name itself.

    Raises:
        CheckpointError: it is not a file, or cannot be read; or at the end, if it was written to,
            replaced or removed meanwhile.
    """
    if not path.is_file():  # to open a pipe would wait for its other end
        raise CheckpointError(path, "no such file")
    try:
        file = path.open("rb")
    except OSError as error:
        raise CheckpointError(path, f"cannot be read: {error.strerror}") from error
    with file:
        before = _version(os.fstat(file.fileno()))
        place = _DESCRIPTORS / str(file.fileno())
        yield place if place.exists() else path
        if before != _version(os.fstat(file.fileno())) or _replaced(path, before):
            raise CheckpointError(path, "was changed while it was read: start again")


def _replaced(path: Path, version: tuple[int, ...]) -> bool:
    """Whether another file has the name, or none; its content is not what was read."""
    try:
        return _version(path.stat()) != version
    except OSError:
        return True


def _version(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
