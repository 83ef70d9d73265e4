"""A fake model hub: serves folders on localhost under the URLs that huggingface_hub requests."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LATER_COMMIT = "fedcba9876543210fedcba9876543210fedcba98"
BRANCHES = {"v1": COMMIT, "refs/pr/1": LATER_COMMIT}
PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Repository:
    """A folder of files. ``gated`` denies access to them; ``cut`` sends half of every body.

    ``broken`` closes the connection in the middle of the first answer with each .bin.
    ``later`` is what the repository holds once its newest revision has been asked for.
    """

    folder: Path
    gated: bool = False
    cut: bool = False
    broken: bool = False
    later: Path | None = None

    def folder_at(self, revision: str) -> Path:
        return self.later if self.later and revision == LATER_COMMIT else self.folder

    def files(self, revision: str) -> list[str]:
        folder = self.folder_at(revision)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return [path.relative_to(folder).as_posix() for path in paths]


@dataclass(frozen=True, slots=True)
class Fault:
    """What a hub does instead of answering, to its next ``times`` requests whose path has ``path``.

    ``kind`` is silent, reset, portal (a web page), nonsense (JSON of another kind), trickle (a byte
    now and then) or a status.
    """

    kind: str
    times: float = float("inf")
    path: str = "/"


@dataclass(frozen=True, slots=True)
class Hub:
    """The hub's address, the files it has sent so far, and where the resumed ones began."""

    endpoint: str
    fetched: list[str]
    resumed: dict[str, int]
    faults: list[Fault]


@contextmanager
def running_hub(repositories: Mapping[str, Repository]) -> Iterator[Hub]:
    """Serve repositories by name while the context is open."""
    server = _Server(repositories)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        yield Hub(endpoint, server.fetched, server.resumed, server.faults)
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, repositories: Mapping[str, Repository]) -> None:
        self.repositories = repositories
        self.fetched: list[str] = []
        self.resumed: dict[str, int] = {}
        self.moved: set[str] = set()
        self.broken: set[str] = set()
        self.faults: list[Fault] = []
        self.closing = threading.Event()
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
        fault = self._next_fault()
        if fault is not None:
            self._fail(fault)
        else:
            self._answer_well(with_body=with_body)

    def _next_fault(self) -> Fault | None:
        for index, fault in enumerate(self.server.faults):
            if fault.times > 0 and fault.path in self.path:
                self.server.faults[index] = replace(fault, times=fault.times - 1)
                return fault
        return None

    def _fail(self, fault: Fault) -> None:
        if fault.kind == "silent":
            self.server.closing.wait()
        elif fault.kind == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        elif fault.kind == "portal":
            page = b"<html><h1>Please log in</h1></html>"
            self._send(200, page, {"Content-Type": "text/html", "Content-Length": str(len(page))})
        elif fault.kind == "nonsense":
            self._send_json(["not", "a", "model"])
        elif fault.kind == "trickle":
            self._trickle()
        else:
            self._send(int(fault.kind), b"", {"Content-Length": "0"})
        self.close_connection = True

    def _trickle(self) -> None:
        self._send(200, b"", {"Content-Type": "application/json", "Content-Length": "1000000"})
        with suppress(OSError):  # the client has left
            while not self.server.closing.wait(0.05):
                self.wfile.write(b" ")

    def _answer_well(self, *, with_body: bool) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            name, action, rest = "/".join(parts[2:4]), parts[4:5], parts[5:]
        else:
            name, action, rest = "/".join(parts[:2]), parts[2:3], parts[3:]
        repository = self.server.repositories.get(name)
        if repository is None:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif repository.gated and action == ["resolve"]:
            self._send(401, b"", {"X-Error-Code": "GatedRepo"})
        elif action == ["resolve"]:
            revision, *path = rest
            self._send_file(repository, revision, "/".join(path), with_body=with_body)
        elif action == ["tree"]:
            folder, files = repository.folder_at(rest[0]), repository.files(rest[0])
            self._send_json([_tree_entry(folder / file, file) for file in files])
        else:
            newest = rest in ([], ["main"])
            revision = self._newest(name, repository) if newest else unquote("/".join(rest))
            if revision not in (COMMIT, LATER_COMMIT, *BRANCHES):
                self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
                return
            revision = BRANCHES.get(revision, revision)
            siblings = [{"rfilename": file} for file in repository.files(revision)]
            self._send_json({"id": name, "sha": revision, "siblings": siblings})

    def _newest(self, name: str, repository: Repository) -> str:
        """The first commit at first; where there is a later one, that from then on."""
        moved = name in self.server.moved
        if repository.later is not None:
            self.server.moved.add(name)
        return LATER_COMMIT if moved else COMMIT

    def _send_file(
        self, repository: Repository, revision: str, file: str, *, with_body: bool
    ) -> None:
        if file not in repository.files(revision):
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        path = repository.folder_at(revision) / file
        headers = {"ETag": f'"{_blob_id(path)}"', "X-Repo-Commit": revision}
        if with_body:
            self._send_body(repository, path, file, headers)
        else:
            self._send(200, b"", headers | {"Content-Length": str(path.stat().st_size)})

    def _send_body(
        self, repository: Repository, path: Path, file: str, headers: Mapping[str, str]
    ) -> None:
        size, start = path.stat().st_size, self._range_start()
        end = size // 2 if repository.cut else size
        promised = {"Content-Length": str(end - start)}
        if start:
            self.server.resumed[file] = start
            promised["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        else:
            self.server.fetched.append(file)
        if repository.broken and path.suffix == ".bin" and file not in self.server.broken:
            self.server.broken.add(file)
            end = size // 2
        self._send(206 if start else 200, b"", {**headers, **promised})
        with path.open("rb") as source:
            _copy(source, self.wfile, start, end)

    def _range_start(self) -> int:
        """Where the client wants the file to begin: it asks for the rest of a broken download."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(found[1]) if found else 0

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


def _copy(source: BufferedIOBase, target: BufferedIOBase, start: int, end: int) -> None:
    """Copy the bytes from ``start`` to ``end``, a piece at a time."""
    source.seek(start)
    while piece := source.read(min(PIECE_BYTES, end - source.tell())):
        target.write(piece)


@lru_cache
def _blob_id(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()


def _tree_entry(path: Path, file: str) -> dict[str, object]:
    return {"type": "file", "path": file, "size": path.stat().st_size, "oid": _blob_id(path)}
