"""Soak: a mixed load for a long time; memory, threads and descriptors stay flat.

`make drill ARGS=tests/drills/test_soak.py` soaks for half an hour, SOAK_MINUTES=480 for a night.
"""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from collections.abc import Callable
from subprocess import PIPE

import pytest

from tests.drills.figures import FOLDER, Figure, write_figures
from tests.drills.soak.judge import LEAST_SAMPLES, Verdict, trend
from tests.drills.soak.mix import KINDS
from tests.drills.soak.run import CROWD, Load
from tests.drills.soak.sampling import Sample, per_thousand, sample
from tests.drills.soak.watch import ALLOWED, Course, soak, trends_of
from tests.support.services import Running, wait_until

MINUTES = float(os.environ.get("SOAK_MINUTES", "30"))
SAMPLES = 360
"""Of a soak of half an hour, one every five seconds."""

SOME = 30
"""Visits of clients that come by themselves."""

Series = Callable[[int, random.Random], float]
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def wandering(seed: int) -> list[float]:
    """Noise that depends on what it was before, as memory does; its standard deviation is about 300."""
    choose, level, levels = random.Random(seed), 0.0, []
    for _ in range(SAMPLES):
        level = 0.9 * level + choose.gauss(0, 130)
        levels.append(level)
    return levels


def judged(series: Series, seed: int = 0, allowed: float = 256.0) -> Verdict:
    """The verdict on a series over five requests a sample, with noise, in KiB per thousand requests."""
    noise, choose = wandering(seed), random.Random(seed)
    requests = [5 * i / 1000 for i in range(SAMPLES)]
    values = [series(i, choose) + noise[i] for i in range(SAMPLES)]
    return trend(requests, values).verdict(allowed)


def leaking(kib_per_request: float) -> Series:
    return lambda i, _: 5 * i * kib_per_request


@pytest.mark.parametrize("seed", range(20))
def test_a_leak_of_a_few_kibibytes_a_request_grows(seed: int) -> None:
    assert judged(leaking(3.0), seed) == "grows"


def test_noise_alone_is_hardly_ever_taken_for_growth() -> None:
    verdicts = [judged(leaking(0.0), seed, allowed=0.0) for seed in range(200)]
    assert verdicts.count("grows") <= 16  # one in forty, if neighbours did not depend on each other


def test_what_fills_at_the_start_is_flat() -> None:
    assert judged(lambda i, _: 50_000 * (1 - math.exp(-i / 20)), allowed=2000.0) == "flat"


def test_a_series_too_noisy_to_tell_is_not_called_flat() -> None:
    assert judged(lambda _, choose: choose.gauss(0, 20_000)) == "unsure"


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="samples"):
        trend(range(LEAST_SAMPLES), range(LEAST_SAMPLES))


def test_a_line_is_found_with_no_error() -> None:
    found = trend(range(SAMPLES), [7.0 * i for i in range(SAMPLES)])
    assert found.slope == pytest.approx(7.0)
    assert found.error == pytest.approx(0.0, abs=1e-9)


LEAK = """
import os, sys, threading
kept = []
for _ in sys.stdin:
    kept.append(bytearray(b"x" * int(sys.argv[1])))
    if sys.argv[1] != "0":
        os.open(os.devnull, os.O_RDONLY)
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    print(flush=True)
"""
"""Leaks a little for each line that it reads, and answers with one."""


@linux
@pytest.mark.parametrize(("size", "expected"), [(0, "flat"), (20_000, "grows")])
def test_a_process_that_leaks_is_told_from_one_that_does_not(size: int, expected: str) -> None:
    """Of one request per sample."""
    command = [sys.executable, "-c", LEAK, str(size)]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        samples: list[Sample] = []
        for requests in range(80):
            process.stdin.write(b"\n")
            assert process.stdout.read(1)
            samples.append(sample(process.pid, requests, requests))
    for value in ("anonymous_kib", "threads", "descriptors"):
        found = per_thousand(samples, lambda each, value=value: getattr(each, value))  # type: ignore[misc]
        assert found.verdict(200.0) == expected, value


def test_what_is_in_flight_now_and_then_is_no_growth_and_hides_none() -> None:
    choose = random.Random(0)
    for kept_kib, expected in ((0.1, "flat"), (4.0, "grows")):
        samples = [
            Sample(
                seconds=5.0 * i,
                requests=15 * i,
                anonymous_kib=500_000 + round(kept_kib * 15 * i) + choose.choice((0, 2_000, 9_000)),
                resident_kib=700_000,
                threads=8,
                descriptors=8,
            )
            for i in range(SAMPLES)
        ]
        trends = trends_of(samples)
        assert trends["memory"].verdict(ALLOWED["memory"]) == expected
        assert trends["threads"].verdict(ALLOWED["threads"]) == "flat"
        unfiltered = per_thousand(samples, lambda each: each.anonymous_kib)
        assert trends["memory"].error < unfiltered.error / 3


def test_every_kind_of_visit_gets_what_it_may_expect(service: Running) -> None:
    load = Load(service.url.removeprefix("http://"), pause_s=0.01, seed=1)
    load.visit_all()
    load.start()
    wait_until(lambda: load.tally.visits > CROWD * len(KINDS) + SOME)
    load.end()
    assert not load.tally.unexpected
    wait_until(lambda: service.queue_row_steps == 0)


def check(course: Course) -> None:
    assert not course.tally.unexpected
    assert not course.errors
    assert course.exit_code == 0
    left = course.tally.of("vanish", "vanish from stream", "vanish from body").total()
    seen = sum(course.tally.of("one", "several", "stream")[each] for each in ("200", "done"))
    assert seen <= course.counted_ok <= seen + left
    assert left / 3 < course.counted_cancelled <= left


@linux
@pytest.mark.drill
def test_memory_is_flat_under_a_mixed_load_and_the_twin_that_leaks_is_caught() -> None:
    service, twin = soak(60 * MINUTES, FOLDER)
    write_figures("soak", figures_of(service, twin))
    check(service)
    check(twin)
    assert {name: service.verdict(name) for name in ALLOWED} == dict.fromkeys(ALLOWED, "flat")
    assert {name: twin.verdict(name) for name in ALLOWED} == dict.fromkeys(ALLOWED, "grows")


UNITS = {"memory": " KiB", "threads": "", "descriptors": ""}


def figures_of(service: Course, twin: Course) -> dict[str, Figure | str]:
    last = service.samples[-1]
    rows: dict[str, Figure | str] = {
        "time": f"{last.seconds / 60:.0f} min",
        "requests": f"{service.tally.visits}, and {twin.tally.visits} to the twin that leaks",
        "answers that were not expected": Figure(str(len(service.tally.unexpected)), "0"),
        "error lines in the log": Figure(str(len(service.errors)), "0"),
        "resident memory at the end": f"{last.resident_kib / 1024:.0f} MiB,"
        f" {last.anonymous_kib / 1024:.0f} of it anonymous",
        "threads, descriptors at the end": f"{last.threads}, {last.descriptors}",
    }
    for course, name, promise in (
        (service, "", "at most {} with certainty: flat"),
        (twin, ", of the twin that leaks", "more than {} with certainty: caught"),
    ):
        for measure, found in course.trends.items():
            unit = UNITS[measure]
            row = f"growth of {measure} in 1,000 requests{name}"
            measured = f"{found.slope:.2f} ± {found.error:.2f}{unit}: {course.verdict(measure)}"
            rows[row] = Figure(measured, promise.format(f"{ALLOWED[measure]:g}{unit}"))
    return rows
