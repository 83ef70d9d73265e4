"""Mapped memory: giving back the pages of files that are mapped into this process."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Collection, Iterator
from pathlib import Path

_MAPS = Path("/proc/self/maps")


def release_pages(files: Collection[Path]) -> None:
    """Take the pages of mapped files out of memory; reading them brings them back.

    Otherwise every page that was read stays until its whole file is unmapped, and counts as this
    process's memory. Only for mappings that nobody writes to: changes would be lost. Does nothing
    where there is no /proc.
    """
    if not _MAPS.exists():
        return
    madvise = ctypes.CDLL(None).madvise
    for start, end in _ranges(files):
        madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)


def _ranges(files: Collection[Path]) -> Iterator[tuple[int, int]]:
    """The addresses at which the files are mapped."""
    paths = {str(file.resolve()) for file in files}
    for line in _MAPS.read_text(encoding="utf-8", errors="replace").splitlines():
        span, *_, path = line.split(maxsplit=5)
        if path in paths:
            start, _, end = span.partition("-")
            yield int(start, 16), int(end, 16)
