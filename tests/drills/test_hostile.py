"""Drill: hostile input, over the API's description and below HTTP."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.drills.figures import Figure, write_figures
from tests.drills.hostile.case import Case, case, get
from tests.drills.hostile.corpus import CORPUS, Conversation, converse
from tests.drills.services.growth import MOST_MIB, growth_mib
from tests.drills.services.leaking import LARGE_LEAK, LEAK
from tests.drills.services.served import Served, served

HASTY = {"head_timeout_s": "5", "body_timeout_s": "5", "keep_alive_s": "0.2"}
PATIENCE_S = 30.0
"""By when the service has closed every connection of the corpus, with these settings."""

SWIFT = [each for each in CORPUS if not any(408 in statuses for statuses in each.answers)]
LEAKING: Sequence[Case] = [case("leaks", 200, get(b"/livez", LEAK))] * 300
LEAKING_MUCH: Sequence[Case] = [case("leaks", 200, get(b"/livez", LARGE_LEAK))] * 200
ROUGHLY_MIB = 20.0
"""What a thousand requests may seem to add in the short form: the heap still grows, by megabytes at a time."""

PROMISED = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "503", "504"]
[checks.positive_data_acceptance]
enabled = false  # rules between fields, as that a quality excludes steps, are no part of a schema
"""


@pytest.fixture(scope="module")
def service(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(
        tmp_path_factory.mktemp("log"),
        pipeline_folder,
        module="tests.drills.services.leaking",
        request_timeout_s="10",
        **HASTY,
    ) as running:
        yield running


def faults(conversations: Sequence[Conversation]) -> list[str]:
    return [each.fault for each in conversations if each.fault is not None]


def send(service: Served, cases: Sequence[Case]) -> int:
    assert faults(converse(service.port, cases, PATIENCE_S)) == []
    return len(cases)


def fuzz(service: Served, folder: Path, *options: str) -> str:
    """Have schemathesis send what the OpenAPI document suggests; gives its report."""
    settings = folder / "schemathesis.toml"
    settings.write_text(PROMISED, encoding="utf-8")
    program = str(Path(sys.executable).with_name("schemathesis"))
    command = [program, "--config-file", str(settings), "run"]
    fixed = ["--generation-database=none", "--no-color", "--warnings=off", "--request-timeout=20"]
    document = f"{service.url}/openapi.json"
    done = subprocess.run(
        [*command, document, *fixed, "--max-response-time=10", *options],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return done.stdout


def test_every_case_has_its_name() -> None:
    assert len({each.name for each in CORPUS}) == len(CORPUS) > 250


def test_bytes_that_are_hardly_http_get_their_answers(service: Served) -> None:
    send(service, CORPUS)
    service.check_unharmed()


def test_what_the_document_suggests_gets_a_promised_answer(service: Served, tmp_path: Path) -> None:
    fuzz(service, tmp_path, "--phases=fuzzing", "--max-examples=6", "--seed=1")
    service.check_unharmed()


@pytest.mark.slow
def test_memory_does_not_grow_and_a_leak_is_caught(service: Served) -> None:
    def load() -> int:
        return send(service, SWIFT)

    assert growth_mib(service, load, warm_up=1, rounds=3) < ROUGHLY_MIB
    leak = growth_mib(service, lambda: send(service, LEAKING_MUCH), warm_up=0, rounds=3)
    assert leak > 2 * ROUGHLY_MIB


@pytest.mark.drill
def test_hostile_input_for_minutes(pipeline_folder: Path, tmp_path: Path) -> None:
    """A leak is looked for in the service as it is, and in one that has one."""
    with served(
        tmp_path,
        pipeline_folder,
        module="tests.drills.services.leaking",
        request_timeout_s="5",
        **HASTY,
    ) as service:
        began = service.descriptors
        growth = growth_mib(service, lambda: send(service, CORPUS), warm_up=12, rounds=11)
        service.check_unharmed()
        left = service.descriptors - began
        report = fuzz(service, tmp_path, "--phases=examples,coverage,fuzzing", "--max-time=150")
        service.check_unharmed()
    with served(
        tmp_path, pipeline_folder, module="tests.drills.services.leaking", **HASTY
    ) as leaking:
        leak = growth_mib(leaking, lambda: send(leaking, LEAKING), warm_up=2, rounds=5)
    (suggested,) = re.findall(r"(\d+) generated, \1 passed", report)
    write_figures(
        "hostile",
        {
            "connections with bytes that are hardly HTTP": f"{23 * len(CORPUS):,} of {len(CORPUS)} kinds",
            "of them answered otherwise than expected, or left open": Figure("0", "0"),
            "requests made from the OpenAPI document": f"{int(suggested):,}",
            "of them with an answer that was not promised": Figure("0", "0"),
            "tracebacks in the log": Figure("0", "0"),
            "memory, per thousand connections": Figure(
                f"{growth:.2f} MiB", f"less than {MOST_MIB:g} MiB"
            ),
            "the same of a service that leaks 4 KiB per request": Figure(
                f"{leak:.2f} MiB", "to be caught"
            ),
            "descriptors left open": Figure(str(max(0, left)), "0"),
        },
    )
    assert growth < MOST_MIB < leak
    assert left <= 0
