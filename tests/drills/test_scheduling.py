"""Scheduling: whatever requests do, and in whatever order, each ends once, as it should, and nothing is left."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import HypothesisException
from hypothesis.stateful import run_state_machine_as_test
from structlog.testing import capture_logs

from tests.drills.figures import Figure, write_figures
from tests.drills.machine.planted import PLANTED, UNFAIR, Plant
from tests.drills.machine.requests import Book, Requests
from tests.drills.machine.sharing import Sharing

HISTORIES = int(os.environ.get("SCHEDULING_HISTORIES", "4000"))


@pytest.fixture(autouse=True)
def conditions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One pass of the decoder a step, so that images wait for it, and nothing printed: every failed
    image is logged with its traceback, and there are thousands."""
    monkeypatch.setattr("service.engine.decode_queue.PASS_S", 0.0)
    with capture_logs():
        yield


def histories(
    count: int, rules: int = 30, *, repeatable: bool = True, shrink: bool = True
) -> settings:
    return settings(
        max_examples=count,
        stateful_step_count=rules,
        derandomize=repeatable,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )


def test_requests_meet_every_end() -> None:
    run_state_machine_as_test(Requests, settings=histories(40))


def test_nobody_waits_much_longer_than_with_fair_sharing() -> None:
    run_state_machine_as_test(Sharing, settings=histories(40))


FOUND_BY = dict.fromkeys(PLANTED, Requests) | dict.fromkeys(UNFAIR, Sharing)


@pytest.mark.parametrize("plant", FOUND_BY, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises(Exception) as found:  # noqa: PT011 - an assertion, or what the code raises
        run_state_machine_as_test(FOUND_BY[plant], settings=histories(300, shrink=False))
    assert not isinstance(found.value, HypothesisException)


@pytest.mark.drill
def test_requests_meet_every_end_in_thousands_of_histories(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Book()
    monkeypatch.setattr(Requests, "book", book)
    began = time.monotonic()
    run_state_machine_as_test(Requests, settings=histories(HISTORIES, 50, repeatable=False))
    ends = ", ".join(f"{count} {name}" for name, count in sorted(book.ends.items()))
    figures = {
        "histories, of up to 50 events each": Figure(str(HISTORIES)),
        "requests": Figure(f"{book.ends.total()}: {ends}"),
        "lost, doubled, stuck, or with the wrong end": Figure("0", "0"),
        "faults planted in admission, scheduler and cancel": Figure(
            f"{len(FOUND_BY)}, each found by the short form", "all found"
        ),
        "time": Figure(f"{time.monotonic() - began:.0f} s"),
    }
    write_figures("scheduling", figures)
