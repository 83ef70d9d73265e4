"""Request batches: a server that batches whole requests, as LitServe does, on the same device."""

from __future__ import annotations

from collections.abc import Sequence

from bench.simulate.curve import TickCurve
from bench.simulate.outcome import Outcome
from bench.simulate.traffic import Request


def request_batches(curve: TickCurve, requests: Sequence[Request], wait_s: float) -> list[Outcome]:
    """A batch begins when it is full or its first request has waited ``wait_s``, and runs to its end.

    Its rows stay as many until its longest request is finished, and all are answered then. Requests are of
    one image each.
    """
    assert all(each.images == 1 for each in requests), "this is a bug: a request of several images"
    outcomes: list[Outcome] = []
    free, at = 0.0, 0
    while at < len(requests):
        begins = max(free, requests[at].at)
        closes = max(free, requests[at].at + wait_s)
        batch, rows = [], 0
        for request in requests[at:]:
            rows += max(request.rows)
            if rows > curve.max_rows or request.at > closes:
                break
            batch.append(request)
        full = sum(max(each.rows) for each in batch) >= curve.max_rows - 1
        begins = max(free, batch[-1].at) if full else max(begins, closes)
        width = sum(max(each.rows) for each in batch)
        steps = max(each.steps for each in batch)
        free = begins + steps * curve.seconds(width) + len(batch) * curve.decode_s
        outcomes += [Outcome(each, free) for each in batch]
        at += len(batch)
    return outcomes
