"""Proxy: nginx in front of several services, with the configuration of docs/operations.md."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.load.processes import free_port
from tests.support.processes import answers
from tests.support.services import wait_until

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def documented() -> str:
    """The upstream and the server of "Several services, and an upgrade without loss"."""
    section = PAGE.read_text(encoding="utf-8").partition("\n## Several services")[2]
    block = re.search(
        r"^    upstream dit \{\n(?:(?:    .*)?\n)*?    \}\n(?=\n)", section, re.MULTILINE
    )
    assert block is not None, "the page has no configuration"
    return textwrap.dedent(block[0])


def configuration(text: str, port: int, services: Sequence[int], folder: Path) -> str:
    """The documented text, with other ports, as a whole configuration."""
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    for documented_port, own in zip((8001, 8002), services, strict=True):
        text = text.replace(f"127.0.0.1:{documented_port}", f"127.0.0.1:{own}")
    paths = "".join(f"{name}_temp_path {folder}/{name};\n" for name in TEMPORARY)
    return (
        f"daemon off;\nworker_processes 1;\npid {folder}/pid;\nerror_log {folder}/error.log;\n"
        f"events {{ worker_connections 512; }}\nhttp {{\naccess_log off;\n{paths}{text}}}\n"
    )


@contextmanager
def proxy(services: Sequence[int], text: str | None = None) -> Iterator[str]:
    """nginx, as nobody if the test runs as root, in front of services at these ports; gives its URL."""
    assert NGINX is not None, "the test should have been skipped"
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="nginx-") as name:
        folder = Path(name)
        file = folder / "nginx.conf"
        whole = configuration(documented() if text is None else text, port, services, folder)
        file.write_text(whole, encoding="utf-8")
        user = "nobody" if os.geteuid() == 0 else None
        if user is not None:
            shutil.chown(folder, user)
        error_log = f"{folder}/error.log"
        process = subprocess.Popen([NGINX, "-e", error_log, "-c", str(file)], user=user)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: process.poll() is not None or answers(f"{url}/livez"))
            assert process.poll() is None, Path(error_log).read_text(encoding="utf-8")
            yield url
        finally:
            process.terminate()
            process.wait()
