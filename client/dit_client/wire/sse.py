"""SSE: server-sent events out of the bytes of an event stream, as the HTML standard parses them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from dit_client.errors import InvalidAnswer

MAX_EVENT_BYTES = 256 * 2**20
"""More than any answer of the service has; a stream without line ends is given up here."""

LINE_END = re.compile(rb"\r\n|\n|\r")
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    name: str
    data: str


@dataclass(slots=True, eq=False)
class EventParser:
    """Bytes in, events out. Chunks may be split anywhere. Comments, ids and retry times are dropped, as
    is an event without its blank line at the end."""

    _pending: list[bytes] = field(default_factory=list)  # of the line that has not ended
    _event: str = ""
    _data: list[str] = field(default_factory=list)
    _size: int = 0  # of the event that has not ended
    _first_line: bool = True
    _after_cr: bool = False  # the line ended in CR at the end of a chunk: LF may follow

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """The events that this chunk completes.

        Raises:
            InvalidAnswer: an event is longer than `MAX_EVENT_BYTES`.
        """
        if self._after_cr and chunk:
            chunk, self._after_cr = chunk.removeprefix(b"\n"), False
        start = 0
        for end in LINE_END.finditer(chunk):
            self._keep(chunk[start : end.start()])
            start = end.end()
            yield from self._line(b"".join(self._pending))
        self._after_cr = chunk.endswith(b"\r")
        self._keep(chunk[start:])

    def _keep(self, part: bytes) -> None:
        if part:
            self._pending.append(part)
        self._size += len(part)
        if self._size > MAX_EVENT_BYTES:
            raise InvalidAnswer(f"an event is longer than {MAX_EVENT_BYTES} bytes")

    def _line(self, line: bytes) -> Iterator[ServerSentEvent]:
        self._pending = []
        if self._first_line:
            line, self._first_line = line.removeprefix(BOM), False
        if not line:
            yield from self._end_of_event()
            return
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)

    def _end_of_event(self) -> Iterator[ServerSentEvent]:
        name, data = self._event or "message", self._data
        self._event, self._data, self._size = "", [], 0
        if data:
            yield ServerSentEvent(name, "\n".join(data))
