"""A fake model hub: serves folders on localhost under the URLs that huggingface_hub requests."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True, slots=True)
class Repository:
    """A folder of files. ``gated`` denies access to them; ``cut`` sends half of every body."""

    folder: Path
    gated: bool = False
    cut: bool = False

    def files(self) -> list[str]:
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return [path.relative_to(self.folder).as_posix() for path in paths]


@dataclass(frozen=True, slots=True)
class Hub:
    """The hub's address and the files it has sent so far."""

    endpoint: str
    fetched: list[str]


@contextmanager
def running_hub(repositories: Mapping[str, Repository]) -> Iterator[Hub]:
    """Serve repositories by name while the context is open."""
    server = _Server(repositories)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield Hub(f"http://127.0.0.1:{server.server_address[1]}", server.fetched)
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, repositories: Mapping[str, Repository]) -> None:
        self.repositories = repositories
        self.fetched: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""

    def _answer(self, *, with_body: bool) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            name, action = "/".join(parts[2:4]), parts[4:5]
        else:
            name, action = "/".join(parts[:2]), parts[2:3]
        repository = self.server.repositories.get(name)
        if repository is None:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif repository.gated and action == ["resolve"]:
            self._send(401, b"", {"X-Error-Code": "GatedRepo"})
        elif action == ["resolve"]:
            self._send_file(repository, "/".join(parts[4:]), with_body=with_body)
        elif action == ["tree"]:
            self._send_json([_tree_entry(repository, file) for file in repository.files()])
        else:
            siblings = [{"rfilename": file} for file in repository.files()]
            self._send_json({"id": name, "sha": COMMIT, "siblings": siblings})

    def _send_file(self, repository: Repository, file: str, *, with_body: bool) -> None:
        if file not in repository.files():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        data = (repository.folder / file).read_bytes()
        headers = {
            "ETag": f'"{_blob_id(data)}"',
            "X-Repo-Commit": COMMIT,
            "Content-Length": str(len(data)),
        }
        if with_body:
            self.server.fetched.append(file)
            if repository.cut:
                data = data[: len(data) // 2]
                headers["Content-Length"] = str(len(data))
        self._send(200, data if with_body else b"", headers)

    def _send_json(self, content: object) -> None:
        data = json.dumps(content).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(data))}
        self._send(200, data, headers)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _blob_id(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def _tree_entry(repository: Repository, file: str) -> dict[str, object]:
    data = (repository.folder / file).read_bytes()
    return {"type": "file", "path": file, "size": len(data), "oid": _blob_id(data)}
