"""CheckpointError: raised by everything that reads a checkpoint."""

from __future__ import annotations

from pathlib import Path

_MAX_LENGTH = 240


class CheckpointError(ValueError):
    """A checkpoint cannot be loaded. The message is one line and names the file.

    Args:
        where: the file, folder or hub id.
        problem: what is wrong with it. Line breaks and control characters become spaces.
    """

    def __init__(self, where: Path | str, problem: str) -> None:
        super().__init__(f"{_one_line(str(where))}: {_one_line(problem)}")


def first_line(error: BaseException) -> str:
    """The first line of a library's message, shortened; the exception's class if it is empty."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= _MAX_LENGTH else text[:_MAX_LENGTH] + " ..."


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
