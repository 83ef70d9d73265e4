"""Case: bytes for one connection, and the statuses of the answers to them."""

from __future__ import annotations

from dataclasses import dataclass

GOOD = b'{"class_label": 1, "seed": 1, "num_sampling_steps": 2}'


@dataclass(frozen=True, slots=True)
class Case:
    """Sent in parts, in this order; then the connection is left open until the service closes it.

    Args:
        answers: the statuses, in the order of the answers; none: it is closed without one. Several
            where it depends on how the bytes are cut on their way.
        parts: each is sent on its own.
    """

    name: str
    answers: frozenset[tuple[int, ...]]
    parts: tuple[bytes, ...]


def case(name: str, answers: int | tuple[int, ...] | set[int], *parts: bytes) -> Case:
    """A case; ``answers`` is a status, the statuses of several answers, or a set of possible ones."""
    if isinstance(answers, tuple):
        return Case(name, frozenset({answers}), parts)
    either = answers if isinstance(answers, set) else {answers}
    return Case(name, frozenset((status,) for status in either), parts)


def get(target: bytes = b"/livez", *headers: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    lines = [b"GET " + target + b" " + version, b"Host: localhost", *headers, b"", b""]
    return b"\r\n".join(lines)


def post(body: bytes = GOOD, *headers: bytes, path: bytes = b"/generate") -> bytes:
    return unframed(b"Content-Length: %d" % len(body), *headers, path=path) + body


def unframed(*headers: bytes, path: bytes = b"/generate", version: bytes = b"HTTP/1.1") -> bytes:
    """The head of a POST request that says nothing of its body's length but what is given."""
    lines = [b"POST " + path + b" " + version, b"Host: localhost"]
    return b"\r\n".join([*lines, *headers, b"", b""])


def chunked(*pieces: bytes, path: bytes = b"/generate") -> bytes:
    """A request in chunks; the pieces are what follows its head, as it is."""
    return unframed(b"Transfer-Encoding: chunked", path=path) + b"".join(pieces)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)
