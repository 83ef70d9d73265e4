"""ConnectionRecord: metrics and log lines for what happens outside the application."""

from __future__ import annotations

import time
from collections import Counter

import structlog

from service.http.middleware.observation import outcome_of
from service.metrics import Metrics

QUIET_S = 1.0

log = structlog.get_logger()


class ConnectionRecord:
    """Logs one line a second at most, however many connections there are."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._untold: Counter[str] = Counter()
        self._told = float("-inf")

    def cut(self, reason: str) -> None:
        """A connection was closed early."""
        self._metrics.connections_cut.labels(reason).inc()
        self._tell(reason)

    def no_descriptors(self) -> bool:
        """The operating system has none left for a new connection; whether this was logged."""
        return self._tell("no descriptors left")

    def refused(self, status: int, request_id: str) -> None:
        """A request was answered that the application has not seen."""
        self._metrics.requests.labels("unmatched", outcome_of(status)).inc()
        log.info("request refused", status=status, request_id=request_id)

    def _tell(self, reason: str) -> bool:
        self._untold[reason] += 1
        now = time.monotonic()
        if now < self._told + QUIET_S:
            return False
        counts = {name.replace(" ", "_"): count for name, count in self._untold.items()}
        log.warning("connections closed or not accepted", **counts)
        self._told = now
        self._untold.clear()
        return True
