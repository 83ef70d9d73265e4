"""The container's health check against servers that are ready, not ready, and stopped."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from service.listening import write_address

SCRIPT = Path(__file__).parents[2] / "deploy/healthcheck.py"


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server that answers GET /readyz with ``status``; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def healthcheck(port: int, **more: str) -> subprocess.CompletedProcess[str]:
    # a proxy that does not exist: the check must not use it
    environment = os.environ | {"DIT_PORT": str(port), "http_proxy": "http://127.0.0.1:9"} | more
    command = [sys.executable, str(SCRIPT)]
    return subprocess.run(command, check=False, env=environment, capture_output=True, text=True)


def test_healthcheck_is_healthy_when_ready() -> None:
    with answering(200) as port:
        assert healthcheck(port).returncode == 0


def test_healthcheck_says_why_it_fails() -> None:
    with answering(503) as port:
        unready = healthcheck(port)
    gone = healthcheck(port)
    assert (unready.returncode, unready.stderr.strip()) == (1, "/readyz returned status 503")
    assert gone.returncode == 1
    assert gone.stderr.startswith(f"no answer on port {port}")


@pytest.mark.parametrize("status", [204, 404, 500])
def test_whatever_answers_anything_else_is_not_ready(status: int) -> None:
    with answering(status) as port:
        other = healthcheck(port)
    assert (other.returncode, other.stderr.strip()) == (1, f"/readyz returned status {status}")


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "[::]", "127.0.0.1", "localhost"])
def test_the_host_that_the_service_listens_on_is_asked(host: str) -> None:
    with answering(200) as port:
        assert healthcheck(port, DIT_HOST=host).returncode == 0


def test_no_other_address_is_asked_than_the_one_listened_on() -> None:
    with answering(200) as port:  # on 127.0.0.1
        other = healthcheck(port, DIT_HOST="127.0.0.2")
    assert (other.returncode, f"no answer on port {port} of 127.0.0.2" in other.stderr) == (1, True)


def test_the_address_that_the_service_wrote_goes_first(tmp_path: Path) -> None:
    file = tmp_path / "address"
    with answering(200) as port:
        write_address(file, f"http://127.0.0.1:{port}")
        assert healthcheck(1, DIT_HOST="127.0.0.2", DIT_ADDRESS_FILE=str(file)).returncode == 0
        file.write_text("not an address")
        assert healthcheck(port, DIT_ADDRESS_FILE=str(file)).returncode == 0


def test_the_zone_of_an_address_is_asked_as_well(tmp_path: Path) -> None:
    file = tmp_path / "address"
    write_address(file, "http://[fe80::1%25nowhere]:8000")
    asked = healthcheck(1, DIT_ADDRESS_FILE=str(file))
    assert "port 8000 of fe80::1%nowhere" in asked.stderr
