"""Output: standard error behind a bounded queue, so that printing neither blocks nor ends the process."""

from __future__ import annotations

import os
import select
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

STDERR = 2
MAX_WAITING = 2000
"""How many pieces of text may wait for a reader."""


class Output:
    """Text for a file descriptor, written by a thread of its own.

    What finds the queue full, or cannot be written, is dropped and counted.

    Args:
        fd: where the text goes.
        notice: renders the line that tells, once the reader has caught up, how much was dropped.
        max_waiting: how many pieces of text may wait.
    """

    def __init__(
        self, fd: int, notice: Callable[[int], str], *, max_waiting: int = MAX_WAITING
    ) -> None:
        self.dropped = 0
        self._fd = fd
        self._notice = notice
        self._max_waiting = max_waiting
        self._told = 0
        self._cut = False  # whether the latest line was written in part
        self._counting = threading.RLock()  # a signal's handler may print, too
        self._waiting: SimpleQueue[bytes | threading.Event] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="output", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def write(self, text: str) -> None:
        """Hand text to the thread, or drop it; never waits."""
        if self._waiting.qsize() < self._max_waiting:
            self._waiting.put(text.encode("utf-8", "backslashreplace"))
        else:
            self._drop()

    def flush(self, timeout_s: float) -> None:
        """Wait until all that was handed over before is written, but not for longer than this."""
        reached = threading.Event()
        self._waiting.put(reached)
        reached.wait(timeout_s)

    def _run(self) -> None:
        while True:
            item = self._waiting.get()
            if isinstance(item, threading.Event):
                item.set()
            elif not self._write(item):
                self._drop()
                continue
            if self._waiting.empty():
                self._tell()

    def _tell(self) -> None:
        dropped = self.dropped
        if dropped > self._told and self._write(self._notice(dropped - self._told).encode()):
            self._told = dropped

    def _write(self, data: bytes) -> bool:
        """Write everything; whether that succeeded. A line that was cut is ended first."""
        data = b"\n" + data if self._cut else data
        size = len(data)
        try:
            while data:
                try:
                    data = data[os.write(self._fd, data) :]
                except BlockingIOError:
                    select.select([], [self._fd], [])
        except OSError:  # the reader is gone, the disk is full
            self._cut = self._cut or len(data) < size
            return False
        self._cut = False
        return True

    def _drop(self) -> None:
        with self._counting:
            self.dropped += 1


def secure_standard_streams() -> None:
    """Give 0, 1 and 2 to the null device where they are closed, and let no write to a pipe block.

    Otherwise the next file or socket would get the number, and be printed into. Native libraries
    write to 1 and 2 themselves, perhaps while they hold Python's lock.
    """
    for fd in (0, 1, STDERR):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    for fd in (1, STDERR):
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            _reopen_without_blocking(fd)


def _reopen_without_blocking(fd: int) -> None:
    """Open a pipe anew: O_NONBLOCK on the inherited one would hold for its other writers as well."""
    with suppress(OSError):  # no /proc, or not our pipe: then only the thread may block
        fresh = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK)
        os.dup2(fresh, fd)
        os.close(fresh)
