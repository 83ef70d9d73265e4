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


def healthcheck(port: int) -> subprocess.CompletedProcess[str]:
    # a proxy that does not exist: the check must not use it
    environment = os.environ | {"DIT_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
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
