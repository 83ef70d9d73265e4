"""Continuation: an event stream that goes on with a second replica where the first one's ended.

The same request and seed give the same pictures, so the second replica sends the same events from the
beginning. What the client has had is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus

END = b"\n\n"
UNAVAILABLE = int(HTTPStatus.SERVICE_UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it was sent, with its name and data; a comment has neither."""

    raw: bytes
    name: str = ""
    data: Mapping[str, object] | None = None

    @property
    def problem(self) -> bytes:
        """The data again, as JSON."""
        return json.dumps(self.data).encode()

    def number(self, member: str) -> int:
        """A member of the data that counts something; -1 if it is absent."""
        value = (self.data or {}).get(member)
        return value if isinstance(value, int) else -1

    @property
    def lost(self) -> bool:
        """Whether it is the error of a replica that has failed or stops."""
        if self.name != "error" or self.data is None:
            return False
        inner = self.data.get("error")
        code = inner.get("code") if isinstance(inner, dict) else None
        return self.data.get("status") == UNAVAILABLE or code == "unavailable"


class EventSplitter:
    """Cuts a stream of bytes into events."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that this chunk completes."""
        *whole, self._rest = (self._rest + chunk).split(END)
        for raw in whole:
            yield _parse(raw + END)


class Continuation:
    """What the client has had of one request's events, over all tries."""

    def __init__(self) -> None:
        self._steps = 0  # that the latest progress told
        self._behind = False  # whether this try has not come as far as the one before
        self._images: set[int] = set()
        self._partial: dict[int, int] = {}  # by image, the number of its latest preview

    def restart(self) -> None:
        """Another replica begins anew."""
        self._behind = self._steps > 0

    def is_new(self, event: Event) -> bool:
        """Whether the client has not had it; it has now."""
        name = event.name.rpartition(".")[2]
        if name == "progress":
            return self._is_ahead(event.number("step"))
        if name == "preview":
            return not self._behind
        if name == "partial_image":
            return self._is_next_preview(event.number("index"), event.number("partial_image_index"))
        if name in ("image", "completed"):
            known = event.number("index") in self._images
            self._images.add(event.number("index"))
            return not known
        return True

    def _is_ahead(self, steps: int) -> bool:
        if self._behind and steps <= self._steps:
            return False
        self._behind, self._steps = False, steps
        return True

    def _is_next_preview(self, image: int, number: int) -> bool:
        if number <= self._partial.get(image, -1):
            return False
        self._partial[image] = number
        return True


def error_event(body: bytes) -> bytes:
    """An error as the last event of a stream that has begun; ``body`` is JSON without line ends."""
    return b"event: error\ndata: " + body.replace(b"\n", b" ") + END


def _parse(raw: bytes) -> Event:
    name, data = "", ""
    for line in raw.decode("utf-8", "replace").splitlines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            data += line.removeprefix("data: ")
    try:
        content = json.loads(data)
    except ValueError:
        content = None
    return Event(raw, name, content if isinstance(content, dict) else None)
