"""Log lines: one line per event, whichever library logs it and whatever a client puts into it."""

from __future__ import annotations

import json
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path

import pytest
import structlog
from structlog.dev import ConsoleRenderer

from service.printable import make_printable
from tests.support.services import Running, wait_until

LOGGING = """
import logging, sys, structlog
from service.logs import configure_logs
configure_logs(sys.argv[1])
structlog.get_logger().info("request", path="/a\\nERROR forged", status=404, id="\\x9b31m")
logging.getLogger("uvicorn.error").warning("from a %s", "library")
logging.getLogger("uvicorn.error").debug("too much detail")
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger().exception("unexpected error", request_id="abc")
"""


def log_lines(form: str) -> list[str]:
    """What a new process logs."""
    done = subprocess.run(
        [sys.executable, "-c", LOGGING, form],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert not done.stdout
    return done.stderr.splitlines()


def test_json_lines_are_one_object_each() -> None:
    request, library, error = (json.loads(line) for line in log_lines("json"))
    assert request["event"] == "request"
    assert (request["path"], request["status"]) == ("/a\nERROR forged", 404)
    assert (library["event"], library["level"]) == ("from a library", "warning")
    assert (error["event"], error["request_id"]) == ("unexpected error", "abc")
    assert "ZeroDivisionError" in error["exception"]
    assert all("timestamp" in each for each in (request, library, error))


@pytest.mark.parametrize(
    ("path", "level"),
    [
        ("/livez", "debug"),
        ("/readyz", "debug"),
        ("/metrics", "debug"),
        ("/classes", "info"),
        ("/nothing", "info"),
    ],
)
def test_what_asks_every_few_seconds_is_not_in_the_log(
    service: Running, path: str, level: str
) -> None:
    request_id = f"quiet{path}"
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        service.client.get(path, headers={"X-Request-Id": request_id})
        wait_until(lambda: any(line.get("request_id") == request_id for line in lines))
    (line,) = (line for line in lines if line.get("request_id") == request_id)
    assert (line["event"], line["path"], line["log_level"]) == ("request", path, level)


CONTROLS = "\x00\x08\t\r\n\x1b[31m\x7f\x85\x9b31m\u2028\u202e\u2066\ufeff\ud800"


def printed(**members: object) -> str:
    """A console line."""
    line = ConsoleRenderer(colors=False)(None, "", make_printable(None, "", dict(members)))
    assert isinstance(line, str)
    return line


@pytest.mark.parametrize("member", ["event", "path", "request_id"])
def test_no_control_character_reaches_a_terminal(member: str) -> None:
    line = printed(**{"event": "request", member: f"a{CONTROLS}Crème 日本"})
    assert line.isprintable()
    assert "Crème 日本" in line
    assert r"\x1b[31m" in line


def test_no_control_character_reaches_a_terminal_in_lists_or_tracebacks() -> None:
    assert printed(event="e", values=[CONTROLS]).isprintable()
    lines = printed(event="e", exception=f"Traceback:\n  File\nValueError: {CONTROLS}").splitlines()
    assert lines[1:3] == ["Traceback:", "  File"]
    assert all(line.isprintable() for line in lines)


def test_a_status_is_a_number_in_every_line(service: Running) -> None:
    with structlog.testing.capture_logs() as lines:
        for path in ("/nothing", "/generate", "/classes"):
            service.client.get(path)
        wait_until(lambda: len(lines) >= 3)
    assert all(type(line["status"]) is int for line in lines)
    assert "status=404" in printed(event="request", status=HTTPStatus.NOT_FOUND)


def test_console_lines_show_the_same() -> None:
    lines = log_lines("console")
    for text in ("[info     ] request", "from a library", "unexpected error"):
        assert sum(text in line for line in lines) == 1
    assert not any(line.startswith("ERROR forged") for line in lines)
    assert all(line.isprintable() for line in lines)
