"""AnswerStart: h11's connection, with the start of an answer sent ahead byte by byte.

It also passes over empty lines before a request, which h11 takes for a broken one, and tells a head
that is too large from one that is broken.
"""

from __future__ import annotations

import re
from http import HTTPStatus

import h11

START = b"HTTP/1.1 "
"""Every answer begins so, whatever its status and the client's version."""
EMPTY_LINES = re.compile(rb"(\r?\n)+")


class AnswerStart(h11.Connection):
    """Lets the server write to a client whose answer is not known yet.

    A client that has closed its end may only have finished sending. One that is gone resets the
    connection when something is written to it; one that is there gets its answer's first bytes a
    little earlier.
    """

    def __init__(self, max_head_bytes: int) -> None:
        super().__init__(h11.SERVER, max_head_bytes)
        self.produced = 0  # bytes, of all answers
        self.too_large = False  # a head, so that nothing more is read
        self._ahead = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        """As h11 has it; empty lines before a request are none of it (RFC 9112, 2.2)."""
        if self.their_state is h11.IDLE:
            before = EMPTY_LINES.match(self.trailing_data[0])
            if before is not None:
                self._receive_buffer.maybe_extract_at_most(before.end())
            if self.trailing_data[0] == b"\r":
                return h11.NEED_DATA
        try:
            return super().next_event()
        except h11.RemoteProtocolError as error:
            self.too_large = error.error_status_hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise

    def next_byte(self) -> bytes:
        """The next byte of the coming answer; empty if they are used up."""
        byte = START[self._ahead : self._ahead + 1]
        self._ahead += len(byte)
        self.produced += len(byte)
        return byte

    def send_with_data_passthrough(self, event: h11.Event) -> list[bytes] | None:
        """The bytes of an event, without what was sent ahead; `send` joins them."""
        pieces = super().send_with_data_passthrough(event)
        if pieces and isinstance(event, h11.Response):
            pieces, self._ahead = [b"".join(pieces)[self._ahead :]], 0
        self.produced += sum(map(len, pieces or ()))
        return pieces
