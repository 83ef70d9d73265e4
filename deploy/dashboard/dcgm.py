"""A stand-in for NVIDIA's exporter, where there is no GPU: its counters, with numbers made up."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COUNTERS = Path(__file__).parents[1] / "dcgm-counters.csv"
LABELS = 'gpu="0",UUID="GPU-stand-in",device="nvidia0",modelName="stand-in"'


def counters() -> list[tuple[str, str, str]]:
    """Name, type and help of every counter that the stack asks for."""
    lines = COUNTERS.read_text(encoding="utf-8").splitlines()
    return [
        (name.strip(), kind.strip(), text.strip())
        for name, kind, text in (line.split(",", 2) for line in lines if line[:1] not in ("", "#"))
    ]


def exposition(at: float) -> str:
    """What the exporter would answer, with values that rise and fall."""
    parts = []
    for number, (name, kind, text) in enumerate(counters()):
        value = 0.0 if "XID" in name else 50 + 40 * math.sin(at / 20 + number)
        parts.append(
            f"# HELP {name} {text}\n# TYPE {name} {kind}\n{name}{{{LABELS}}} {value:.1f}\n"
        )
    return "".join(parts)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = exposition(time.time()).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def stand_in() -> Iterator[str]:
    """Run it; yields host:port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
