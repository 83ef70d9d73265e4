"""LoadGauges: the metrics of what waits, what runs, and the memory that it takes."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from model.runner.runner import ModelRunner
from service.metrics import Metrics
from service.scheduling.admission import AdmissionQueue
from service.scheduling.scheduler import Scheduler

MEMORY_EVERY_S = 1.0
"""How often the device's memory is read: reading it takes a noticeable part of a short step."""

log = structlog.get_logger()


class LoadGauges:
    """Set after every step, and a changed row limit is logged."""

    def __init__(
        self,
        runner: ModelRunner,
        queue: AdmissionQueue,
        scheduler: Scheduler,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._runner = runner
        self._queue = queue
        self._scheduler = scheduler
        self._metrics = metrics
        self._clock = clock
        self._memory_due = clock()
        self._row_limit = scheduler.row_limit
        metrics.row_limit.set(self._row_limit)

    def observe(self) -> None:
        """Set all gauges."""
        self._metrics.requests_running.set(self._scheduler.running)
        self._metrics.requests_waiting.set(self._scheduler.waiting)
        self._metrics.row_steps_waiting.set(self._queue.row_steps)
        self._observe_memory()
        if self._row_limit != self._scheduler.row_limit:
            self._row_limit = self._scheduler.row_limit
            self._metrics.row_limit.set(self._row_limit)
            log.warning("row limit changed", rows=self._row_limit)

    def _observe_memory(self) -> None:
        now = self._clock()
        if now >= self._memory_due:
            self._memory_due = now + MEMORY_EVERY_S
            for kind, size in self._runner.memory_bytes().items():
                self._metrics.gpu_memory.labels(kind).set(size)
