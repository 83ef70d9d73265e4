"""PreviewBudget: what previews may take from other jobs, and what they cost their own."""

from __future__ import annotations

from service.scheduling.admission import AdmissionQueue
from service.scheduling.jobs import Job
from service.scheduling.pace import Pace
from service.scheduling.scheduler import Scheduler

SHARE = 0.05
"""Next to other jobs, previews take at most this fraction of the ticks' time."""

BURST_TICKS = 8
"""Ticks whose share can be saved up, so that the images of a job can be shown together."""


class PreviewBudget:
    """Grows with every tick and pays for previews at the measured pace of the decoder."""

    def __init__(self, pace: Pace, queue: AdmissionQueue, scheduler: Scheduler) -> None:
        self._pace = pace
        self._queue = queue
        self._scheduler = scheduler
        self._saved_s = 0.0

    def earn(self, tick_s: float) -> None:
        """A tick took ``tick_s``."""
        most = max(self._pace.decode_seconds, BURST_TICKS * SHARE * tick_s)
        self._saved_s = min(self._saved_s + SHARE * tick_s, most)

    def pay(self, images: int) -> int:
        """How many of these previews may be made now; all if only one job is in."""
        each = self._pace.decode_seconds
        if len(self._scheduler.jobs()) == 1 or each == 0:
            return images
        paid = min(images, int(self._saved_s / each))
        self._saved_s -= paid * each
        return paid

    def charge(self, job: Job, images: int) -> None:
        """Previews of these many images of a job are made; they count as row-steps of it."""
        row_steps = images * job.preview_row_steps
        job.previews_made += images
        self._scheduler.charge(row_steps)
        self._queue.work_off(job, row_steps)
