"""Descriptors: how many files and sockets the operating system lets this process open."""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

ENOUGH = 65_536
RESERVED = 64
"""For the files that the model, the encoders and the libraries open later."""


def raise_descriptor_limit() -> None:
    """Raise the soft limit towards the hard one, as far as it is of use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS has limits that getrlimit does not tell
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def room_for_connections() -> int:
    """How many connections the descriptors are enough for, at least 1."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return ENOUGH
    return max(1, soft - _open_now() - min(RESERVED, soft // 4))


def _open_now() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())
