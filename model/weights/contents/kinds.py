"""Kinds: what a file is by its first bytes, whatever it is called."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from model.weights.errors import CheckpointError

Kind = Literal["safetensors", "zip", "pickle", "other"]

_LFS_POINTER = b"version https://git-lfs"
_WEB_PAGE = re.compile(rb"\s*<(!doctype html|html|head)", re.IGNORECASE)


def kind_of(path: Path, place: Path | None = None) -> Kind:
    """How the content of a file is written.

    Args:
        place: where to read it, if not by its name; errors have the name.

    Raises:
        CheckpointError: the file is empty, or stands for the one that was meant.
        OSError: it cannot be read.
    """
    with (place or path).open("rb") as file:
        head = file.read(256)
    refuse_substitutes(head, path)
    if head[:2] == b"PK":
        return "zip"
    if head[8:9] == b"{":
        return "safetensors"
    return "pickle" if head[:1] == b"\x80" else "other"


def refuse_substitutes(head: bytes, path: Path) -> None:
    """Refuse what a download or clone leaves in a file's place.

    Raises:
        CheckpointError: the file is empty, a pointer of Git LFS or a web page.
    """
    if not head:
        raise CheckpointError(path, "is empty")
    if head.startswith(_LFS_POINTER):
        problem = "is a pointer of Git LFS, not the file itself: run git lfs pull in its repository"
        raise CheckpointError(path, problem)
    if _WEB_PAGE.match(head):
        raise CheckpointError(path, "is a web page: its download failed")
