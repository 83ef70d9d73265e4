"""Stopping: SIGTERM under load, SIGKILL and a new start, and a rolling restart behind nginx."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from model.runner.runner import ModelRunner
from tests.drills.figures import Figure, write_figures
from tests.drills.services.started import Started, started
from tests.drills.stops.callers import Calls, Sent, bare_callers, callers
from tests.drills.stops.proxy import NGINX, documented, proxy
from tests.support.processes import PROCESS_S, free_port
from tests.support.services import LIMITS, load_small_runner, running_service, wait_until

nginx = pytest.mark.skipif(NGINX is None, reason="needs nginx")
DRAIN_S = 60.0
ALREADY_IN_S = 0.5
"""A request that was sent so long before the signal has been admitted."""

FIRST = {"class_label": 3, "seed": 3, "num_sampling_steps": 4}


def answers_logged(service: Started) -> Counter[str]:
    """Answers to requests for pictures, by their status."""
    return Counter(
        str(line["status"]) for line in service.lines() if line.get("path") == "/generate"
    )


def check_none_is_lost(
    service: Started, sent: Sequence[Sent], signalled: float, before: Counter[str]
) -> None:
    """Every request that was in is answered, the others are refused, and the log says the same.

    ``before``: what the log said of earlier ones.
    """
    outcomes = Counter(each.outcome for each in sent)
    assert outcomes.keys() <= {"200", "503", "unread", "refused"}, outcomes
    early = Counter(each.outcome for each in sent if each.at < signalled - ALREADY_IN_S)
    assert early.keys() == {"200"}, early
    assert [each for each in sent if each.at < signalled < each.ended], "there was no load"
    logged = answers_logged(service) - before
    assert logged == Counter({each: outcomes[each] for each in ("200", "503") if outcomes[each]})
    assert not service.errors()


def stop_under_load(
    service: Started, *, clients: int, steps: int, least: int
) -> tuple[list[Sent], float]:
    """SIGTERM once so many requests are answered; the requests, and the seconds until the exit."""
    before = answers_logged(service)
    with bare_callers(service.host, clients=clients, steps=steps) as sent:
        wait_until(lambda: len(sent) >= least, PROCESS_S)
        time.sleep(2 * ALREADY_IN_S)
        signalled = time.monotonic()
        code, seconds = service.end()
    assert code == 0
    assert seconds < DRAIN_S + 15
    check_none_is_lost(service, sent, signalled, before)
    return sent, seconds


def restart_after_kill(service: Started, *, clients: int, steps: int, least: int) -> list[Sent]:
    """SIGKILL under load. Those that were in have no answer, and not half of one."""
    with bare_callers(service.host, clients=clients, steps=steps) as sent:
        wait_until(lambda: len(sent) >= least, PROCESS_S)
        code, _ = service.end(signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert {each.outcome for each in sent} <= {"200", "unread", "cut", "refused"}
    return sent


@pytest.mark.slow
def test_a_stop_under_load_loses_nothing(pipeline_folder: Path, tmp_path: Path) -> None:
    settings = {
        "DIT_MODEL": str(pipeline_folder),
        "DIT_DRAIN_TIMEOUT_S": f"{DRAIN_S:g}",
    }
    with started("service", log=tmp_path / "log", settings=settings) as service:
        stop_under_load(service, clients=4, steps=1000, least=4)


class Replica:
    """A service in this process that can be stopped and started anew at its port."""

    def __init__(self, load: Callable[[], ModelRunner]) -> None:
        self.port = free_port()
        self._load = load
        self._stack = ExitStack()

    def start(self) -> None:
        limits = replace(LIMITS, reproducible=True)
        self._stack.enter_context(
            running_service(self._load, port=self.port, limits=limits, drain_timeout_s=60.0)
        )

    def stop(self) -> None:
        self._stack.close()


@contextmanager
def replicas(folder: Path) -> Iterator[list[Replica]]:
    def load() -> ModelRunner:
        return load_small_runner(folder, max_rows=8, reproducible=True)

    both = [Replica(load), Replica(load)]
    try:
        for each in both:
            each.start()
        yield both
    finally:
        for each in both:
            each.stop()


def restart_each(both: Sequence[Replica], calls: Calls, pause_s: float) -> None:
    """One after the other, with requests before, between and after."""
    for each in both:
        answered = calls.answered + len(calls.errors)
        wait_until(lambda n=answered: calls.answered + len(calls.errors) > n + 3)  # type: ignore[misc]
        each.stop()
        each.start()
        time.sleep(pause_s)


@nginx
def test_a_rolling_restart_behind_nginx_loses_nothing(pipeline_folder: Path) -> None:
    text = documented().replace("fail_timeout=2s", "fail_timeout=1s")
    with replicas(pipeline_folder) as both:
        with (
            proxy([each.port for each in both], text) as url,
            callers(url, clients=3, attempts=30, steps=30, pause_s=0.02) as calls,
        ):
            restart_each(both, calls, 1.1)
        assert not calls.errors
        assert calls.answered > 20
        assert {len(each) for each in calls.pictures.values()} == {1}, "a picture changed"


@nginx
@pytest.mark.drill
def test_without_a_second_try_anywhere_a_rolling_restart_loses_requests(
    pipeline_folder: Path,
) -> None:
    """So the test above could fail."""
    text = documented().replace("error http_503 non_idempotent", "off")
    with replicas(pipeline_folder) as both:
        with (
            proxy([each.port for each in both], text) as url,
            callers(url, clients=3, attempts=1, steps=30, pause_s=0.02) as calls,
        ):
            restart_each(both, calls, 0.1)
        assert calls.errors


# The long form.


class Processes:
    """Two services in processes of their own, each replaced at its port."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.ports = (free_port(), free_port())
        self._folder = folder
        self._settings = settings
        self._running: list[tuple[ExitStack, Started]] = [self._start(i) for i in range(2)]

    def replace(self, which: int, number: signal.Signals) -> int:
        """End one with a signal, and start another in its place; the exit code of the first."""
        stack, service = self._running[which]
        code, _ = service.end(number)
        stack.close()
        self._running[which] = self._start(which)
        return code

    def close(self) -> None:
        for stack, _ in self._running:
            stack.close()

    def _start(self, which: int) -> tuple[ExitStack, Started]:
        stack = ExitStack()
        log = self._folder / f"replica-{which}.log"
        port = self.ports[which]
        return stack, stack.enter_context(
            started("service", log=log, port=port, settings=self._settings)
        )


def row_of_sigterm(folder: Path, settings: Mapping[str, str]) -> Figure:
    with started("service", log=folder / "term.log", settings=settings) as service:
        sent, seconds = stop_under_load(service, clients=6, steps=50, least=18)
    outcomes = Counter(each.outcome for each in sent)
    return Figure(
        f"{len(sent)} sent: {outcomes['200']} answered, {outcomes['503']} refused with 503 and"
        f" Retry-After, {outcomes['unread']} closed unread, {outcomes['refused']} not connected;"
        f" exit 0 after {seconds:.1f} s",
        f"none of the admitted is lost; exit 0 within {DRAIN_S + 15:g} s",
    )


def row_of_a_short_drain(folder: Path, settings: Mapping[str, str]) -> Figure:
    """More work is in than the drain has time for."""
    short = {**settings, "DIT_DRAIN_TIMEOUT_S": "1"}
    with (
        started("service", log=folder / "short.log", settings=short) as service,
        bare_callers(service.host, clients=6, steps=1000) as sent,
    ):
        wait_until(lambda: service.metric("dit_row_steps_waiting") > 10_000, PROCESS_S)
        code, seconds = service.end()
    outcomes = Counter(each.outcome for each in sent)
    assert code == 0
    assert outcomes["503"] >= 6
    assert outcomes.keys() <= {"503", "unread", "refused"}
    assert seconds < 1 + 15
    return Figure(
        f"{outcomes['503']} answered with 503; exit 0 after {seconds:.1f} s",
        "503 for what is left after 1 s; exit 0 within 16 s",
    )


def row_of_sigkill(folder: Path, settings: Mapping[str, str]) -> Figure:
    port = free_port()
    settings = {**settings, "DIT_ADDRESS_FILE": str(folder / "address")}
    with started("service", log=folder / "kill.log", port=port, settings=settings) as service:
        before = service.ask("/generate", FIRST).content
        sent = restart_after_kill(service, clients=6, steps=50, least=18)
    began = time.monotonic()
    with started("service", log=folder / "kill.log", port=port, settings=settings) as service:
        ready_s = time.monotonic() - began
        assert service.ask("/generate", FIRST).content == before
        assert service.end()[0] == 0
    outcomes = Counter(each.outcome for each in sent)
    return Figure(
        f"{outcomes['unread'] + outcomes['cut']} in flight got no answer; ready again at the same port"
        f" {ready_s:.1f} s after the new start; the same picture as before",
        "ready again, with nothing to mend",
    )


def row_of_rolling_restarts(folder: Path, settings: Mapping[str, str]) -> dict[str, Figure]:
    """Three rounds of replacing both; in the last one, both are killed."""
    services = Processes(folder, settings)
    try:
        with (
            proxy(services.ports) as url,
            callers(url, clients=4, attempts=30, steps=20, pause_s=0.05) as calls,
        ):
            for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
                for which in (0, 1):
                    time.sleep(2.5)
                    code = services.replace(which, number)
                    assert code == (0 if number is signal.SIGTERM else -number)
            time.sleep(2.5)
    finally:
        services.close()
    assert not calls.errors
    assert {len(each) for each in calls.pictures.values()} == {1}, "a picture changed"
    retried = ", ".join(f"{count} x {name}" for name, count in calls.retries.items()) or "none"
    return {
        "two rolling restarts of two services behind nginx, and one by SIGKILL": Figure(
            f"{calls.answered} sent, {calls.answered} answered; a seed's picture was the same each time",
            "none lost with the client's retries",
        ),
        "of these, tries again by the client": Figure(retried),
        "of these, the slowest answer": Figure(f"{calls.slowest_s:.1f} s"),
    }


@nginx
@pytest.mark.drill
def test_stops_kills_and_rolling_restarts_lose_nothing(tmp_path: Path) -> None:
    settings = {"DIT_REPRODUCIBLE": "1", "DIT_DRAIN_TIMEOUT_S": f"{DRAIN_S:g}"}
    figures = {
        "SIGTERM under load": row_of_sigterm(tmp_path, settings),
        "SIGTERM with more work than time": row_of_a_short_drain(tmp_path, settings),
        "SIGKILL under load": row_of_sigkill(tmp_path, settings),
        **row_of_rolling_restarts(tmp_path, settings),
    }
    write_figures("stopping", figures)
