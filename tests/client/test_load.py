"""The load test: what its percentiles are of, and from when it counts."""

from __future__ import annotations

import time
from typing import cast

import anyio

from dit_client import AsyncClient, DitError, Options
from dit_client.load.report import percentile, report_of
from dit_client.load.requests import Load, Reply, run_load

BUSY_S = 0.05


class Busy:
    """Keeps everybody from sending while it is asked."""

    async def generate(self, class_label: int | str, **options: object) -> None:
        time.sleep(BUSY_S)  # noqa: ASYNC251 - the event loop is to stand still
        raise DitError("no picture")


def test_percentiles_are_of_the_nearest_rank() -> None:
    hundred = [float(each) for each in range(1, 101)]
    assert [percentile(hundred, each) for each in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert [percentile([1.0, 2.0, 3.0], each) for each in (1, 50, 67)] == [1.0, 2.0, 3.0]
    assert percentile([], 50) is None


def test_failures_count_as_outcomes_and_not_as_latencies() -> None:
    report = report_of([Reply(1.0, "ok", 2), Reply(9.0, "429"), Reply(3.0, "ok", 2)], 2.0)
    assert (report.p50_s, report.longest_s, report.images_per_s) == (1.0, 3.0, 2.0)
    assert report.outcomes == {"429": 1, "ok": 2}


def test_a_request_that_is_sent_late_counts_from_when_it_was_due() -> None:
    load = Load(1, Options(), requests=6, rate=1e6)
    replies, _ = anyio.run(run_load, cast(AsyncClient, Busy()), load)
    assert max(reply.seconds for reply in replies) > 5 * BUSY_S
