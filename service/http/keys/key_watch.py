"""KeyWatch: reads the key file again when it has changed or when it is told to."""

from __future__ import annotations

import queue
import threading
from pathlib import Path

import structlog

from service.http.keys.key_file import Signature, read_key_file, signature_of
from service.http.keys.key_list import BadKeyList
from service.http.keys.key_ring import KeyRing
from service.metrics import Metrics

POLL_S = 5.0
STOP_S = 1.0

log = structlog.get_logger()


class KeyWatch:
    """A thread that looks at the file every few seconds. A file that is wrong leaves the keys as they are.

    Args:
        ring: the keys that came from the file.
        metrics: told whether the file can be used.
    """

    def __init__(
        self, path: Path, ring: KeyRing, metrics: Metrics, *, poll_s: float = POLL_S
    ) -> None:
        self._path = path
        self._ring = ring
        self._metrics = metrics
        self._poll_s = poll_s
        self._seen: Signature | None = None
        self._calls: queue.SimpleQueue[bool] = queue.SimpleQueue()  # whether to go on
        self._thread = threading.Thread(target=self._run, name="keys", daemon=True)

    def start(self) -> None:
        """Watch from now on; what has changed since the keys were read is noticed, too."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread. It may hang in a file system that does not answer."""
        self._calls.put(False)
        self._thread.join(STOP_S)

    def read_again(self) -> None:
        """Read the file soon, changed or not. Signal handlers may call this."""
        self._calls.put(True)

    def _run(self) -> None:
        asked = False
        while True:
            self._look(asked)
            try:
                asked = self._calls.get(timeout=self._poll_s)
            except queue.Empty:
                asked = False
            else:
                if not asked:
                    return

    def _look(self, asked: bool) -> None:
        signature = signature_of(self._path)
        if signature == self._seen and not asked:
            return
        first, self._seen = self._seen is None, signature
        try:
            keys = read_key_file(self._path)
        except BadKeyList as error:
            self._metrics.keys_reload_failing.set(1)
            log.error("the API keys stay as they were", file=str(self._path), reason=str(error))
            return
        self._metrics.keys_reload_failing.set(0)
        changes = self._ring.replace(keys)
        if not first or any(changes.values()):
            log.info("API keys read", keys=len(keys), **changes)
