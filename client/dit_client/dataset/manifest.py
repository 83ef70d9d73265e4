"""Manifest: one line of JSON per finished picture, only ever appended to."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from dit_client.dataset.files import write_atomically
from dit_client.dataset.record import DatasetError

FILE = "manifest.jsonl"
CSV_FILE = "manifest.csv"
SYNC_EVERY = 256
"""Lines that the loss of power may cost; a killed process costs none. Their pictures are made again."""

Line = Mapping[str, object]


class Manifest:
    """The manifest of a folder; `open_manifest` opens one.

    Args:
        file: open for appending, without a buffer.
        size: bytes of the lines that are there.
    """

    def __init__(self, file: io.FileIO, size: int) -> None:
        self._file = file
        self._size = size
        self._unsynced = 0

    def append(self, line: Line) -> None:
        """
        Raises:
            OSError: the line could not be written. Nothing of it is left, so that others can follow.
        """
        raw = json.dumps(line, ensure_ascii=False).encode() + b"\n"
        try:
            if self._file.write(raw) != len(raw):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), FILE)
        except OSError:
            self._file.truncate(self._size)
            raise
        self._size += len(raw)
        self._unsynced += 1
        if self._unsynced >= SYNC_EVERY:
            self.sync()

    def sync(self) -> None:
        os.fsync(self._file.fileno())
        self._unsynced = 0

    def close(self) -> None:
        self.sync()
        self._file.close()


def open_manifest(folder: Path) -> Manifest:
    """Open the manifest for appending; a last line that is torn is cut off.

    Raises:
        DatasetError: another line is not JSON.
    """
    path = folder / FILE
    whole = sum(len(raw) for raw, _ in _lines(path)) if path.exists() else 0
    file = io.FileIO(path, "ab")
    file.truncate(whole)
    return Manifest(file, whole)


def read_manifest(folder: Path) -> Iterator[Line]:
    """The lines that are whole.

    Raises:
        DatasetError: a line other than the last is not JSON.
    """
    path = folder / FILE
    return (line for _, line in _lines(path)) if path.exists() else iter(())


def keep_lines(folder: Path, kept: Iterator[Line]) -> None:
    """Replace the manifest by one of these lines."""
    lines = (json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in kept)
    write_atomically(folder / FILE, b"".join(lines))


def write_csv(folder: Path) -> None:
    """The manifest as CSV; the parameters have a column each."""
    text = io.StringIO()
    writer: csv.DictWriter[str] | None = None
    for line in read_manifest(folder):
        row = dict(line)
        parameters = row.pop("parameters", None)
        row |= parameters if isinstance(parameters, dict) else {}
        if writer is None:
            writer = csv.DictWriter(text, list(row), lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
        writer.writerow(row)
    write_atomically(folder / CSV_FILE, text.getvalue().encode())


def _lines(path: Path) -> Iterator[tuple[bytes, Line]]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.endswith(b"\n"):
                return  # torn: the process was killed while it wrote
            try:
                line = json.loads(raw)
            except ValueError:
                line = None
            if not isinstance(line, dict):
                if not file.read(1):
                    return  # torn, by a loss of power
                raise DatasetError(f"line {number} of {path} is not a JSON object")
            yield raw, line
