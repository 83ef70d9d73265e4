"""Exchange: what a front and a replica send each other for one HTTP request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.fleet.contention import Counts

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A whole request, as the front passes it on.

    ``client`` and ``server`` are addresses as in an ASGI scope. ``seed`` is for a request that names
    none; ``elapsed_s`` is how long ago it arrived.
    """

    method: str
    path: str
    raw_path: bytes
    query: bytes
    headers: Headers
    body: bytes
    scheme: str = "http"
    http_version: str = "1.1"
    client: tuple[str, int] | None = None
    server: tuple[str, int | None] | None = None
    seed: int | None = None
    elapsed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Load:
    """The work that a replica had admitted and not done, in row-steps, and when: Unix time.

    ``counts`` says of how many requests and images it is.
    """

    row_steps: int
    at: float
    counts: Counts


@dataclass(frozen=True, slots=True)
class Taken:
    """A replica has the request."""

    replica: str
    load: Load


@dataclass(frozen=True, slots=True)
class Head:
    """The start of the answer."""

    status: int
    headers: Headers

    def header(self, name: bytes) -> bytes:
        """A header's value; empty if it is absent. ``name`` is in lower case."""
        return next((value for key, value in self.headers if key.lower() == name), b"")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the answer's body; ``last`` ends it."""

    body: bytes
    last: bool
    load: Load


Message = Taken | Head | Part
"""In this order: one Taken, one Head, Parts of which the last one is marked."""
