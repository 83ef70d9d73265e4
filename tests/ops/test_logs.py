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

from service.logs import hide_secrets
from service.printable import make_printable
from tests.ops.test_settings import run_service
from tests.support.services import Running, wait_until

LOGGING = """
import logging, sys, structlog
from service.logs import configure_logs
configure_logs(sys.argv[1])
structlog.get_logger().info("request", path="/a\\nERROR forged", status=404, id="\\x9b31m")
logging.getLogger("torch").warning("from a %s", "library")
logging.getLogger("httpx").info("too much detail")
logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
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


PRINTING = """
import gc, logging, sys, threading, warnings
own = logging.getLogger("own")
own.addHandler(logging.StreamHandler())
own.propagate = False
from service.logs import capture_prints, configure_logs, unify_loggers
capture_prints("json", configure_logs("json").output)
unify_loggers()
own.warning("from a handler\\nof its own")
print("printed", 1, flush=True)
print("\\r10 %\\r20 %", file=sys.stderr)
print("an error", end="\\n\\n", file=sys.stderr)
warnings.warn("a warning")
thread = threading.Thread(target=lambda: 1 / 0, name="a thread")
thread.start()
thread.join()

class Broken:
    def __del__(self):
        raise ValueError("in the clean-up")

Broken()
logging.getLogger("uvicorn.error").info("Uvicorn running on http://127.0.0.1:8000")
logging.getLogger("httpx").info("HTTP Request: GET /")
raise RuntimeError("the last one")
"""


def test_with_json_everything_is_json() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PRINTING],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert not ended.stdout
    events = [json.loads(line) for line in ended.stderr.splitlines()]
    assert all(event.keys() >= {"event", "level", "timestamp"} for event in events)
    short = [(event["level"], event["event"].splitlines()[0]) for event in events]
    assert short[:4] == [
        ("warning", "from a handler"),
        ("info", "printed 1"),
        ("error", "20 %"),
        ("error", "an error"),
    ]
    warned, thread, clean_up, last = events[4:]
    assert "UserWarning: a warning" in warned["event"]
    assert (thread["event"], thread["thread"]) == ("a thread failed", "a thread")
    assert "ZeroDivisionError" in thread["exception"]
    assert "in the clean-up" in clean_up["exception"]
    assert (last["event"], last["level"]) == ("the service failed", "critical")
    assert "the last one" in last["exception"]


@pytest.mark.parametrize(
    ("arguments", "by_variable", "code", "event"),
    [
        (["--port", "http"], False, 2, "DIT_PORT (--port) is 'http': "),
        (["--prot", "1"], True, 2, "unrecognized arguments: --prot 1"),
        (["--host", "http://127.0.0.1"], False, 2, "DIT_HOST (--host) is 'http://127.0.0.1': "),
        (["--host", "192.0.2.77"], True, 2, "DIT_HOST (--host) is '192.0.2.77': "),
        (["--port", "0", "--model", "none.pt"], False, 1, "cannot start: none.pt: no such file"),
    ],
    ids=str,
)
def test_a_failed_start_is_json_as_well(
    arguments: list[str], by_variable: bool, code: int, event: str
) -> None:
    if by_variable:
        ended = run_service(arguments, DIT_LOG_FORMAT="json", DIT_PROT="1")
    else:
        ended = run_service([*arguments, "--log-format=json"])
    assert ended.returncode == code
    assert not ended.stdout
    events = [json.loads(line) for line in ended.stderr.splitlines()]
    assert (events[-1]["event"].startswith(event), events[-1]["level"]) == (True, "error")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET https://me:secret@hub.example/x failed", "GET https://***@hub.example/x failed"),
        ("from 'https://cdn.example/a?Signature=secret&b=c'.", "from 'https://cdn.example/a?***'."),
        ("s3://key:secret@bucket/dit.pt: no such file", "s3://***@bucket/dit.pt: no such file"),
        ("https:/me:secret@hub.example/dit.pt: no such", "https:/***@hub.example/dit.pt: no such"),
        ("HTTPS://me:secret@hub.example/x", "HTTPS://***@hub.example/x"),
        ("from https:/cdn.example/a.pt?Signature=secret", "from https:/cdn.example/a.pt?***"),
        ("Bearer hf_secretsecretsecret", "Bearer hf_***"),
        ("wrong: ditkey_Zk3-secret_secret=", "wrong: ditkey_***="),
        ("ready at http://127.0.0.1:8000", "ready at http://127.0.0.1:8000"),
        ("a@b.example and hf_hub", "a@b.example and hf_hub"),
    ],
)
def test_tokens_are_not_printed(text: str, shown: str) -> None:
    assert hide_secrets(text) == shown
    as_json = json.dumps({"event": f'"{text}"'})
    assert json.loads(hide_secrets(as_json))["event"] == f'"{shown}"'


def test_console_lines_show_the_same() -> None:
    lines = log_lines("console")
    for text in ("[info     ] request", "from a library", "unexpected error"):
        assert sum(text in line for line in lines) == 1
    assert not any(line.startswith("ERROR forged") for line in lines)
    assert all(line.isprintable() for line in lines)
