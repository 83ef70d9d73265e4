"""The run's folder: one training at a time writes to it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator

LOCK_FILE = "lock"


@contextmanager
def exclusive(folder: Path, accelerator: Accelerator | None = None) -> Iterator[None]:
    """Keep other trainings out of a folder until the block, or the process, ends.

    Of the processes of one training, the main one holds it.

    Raises:
        ValueError: another training writes to it.
    """
    if accelerator is not None and not accelerator.is_main_process:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ValueError(
                f"another training, process {file.read().strip() or 'unknown'}, writes to {folder}:"
                " wait for it, or give another --out"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
