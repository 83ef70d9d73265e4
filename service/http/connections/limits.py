"""ConnectionLimits: how many connections there may be, and how long each may take for what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The defaults are those of the settings. Times are in seconds.

    Args:
        max_connections: open at once; probes have a few more.
        head_s: from the opening, or from a later request's first byte, to the end of its head.
        body_s: from the end of the head to the end of the body.
        send_s: how long a client may take hardly anything of an answer that is ready.
        keep_alive_s: from the end of an answer to the next request's first byte.
    """

    max_connections: int = 4096
    head_s: float = 10.0
    body_s: float = 30.0
    send_s: float = 30.0
    keep_alive_s: float = 75.0
