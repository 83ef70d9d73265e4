"""CheckpointError: the one error of everything that reads a checkpoint."""

from __future__ import annotations

from pathlib import Path

LONGEST = 240


class CheckpointError(ValueError):
    """A checkpoint that cannot be loaded; its message is one line that names the file.

    Args:
        where: the file, folder or hub id.
        what: what is wrong with it; line breaks and control characters become spaces.
    """

    def __init__(self, where: Path | str, what: str) -> None:
        super().__init__(f"{_one_line(str(where))}: {_one_line(what)}")


def reason(error: BaseException) -> str:
    """The first line of a library's message, cut to a readable length."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= LONGEST else text[:LONGEST] + " ..."


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
