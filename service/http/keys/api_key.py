"""ApiKey: a secret that lets a client in, known by its digest, with a name and limits."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from service.scheduling.jobs import UNLIMITED, ClientLimits


@dataclass(frozen=True, slots=True)
class ApiKey:
    """``digest`` is the key's SHA-256. Limits that are None do not limit."""

    name: str
    digest: bytes
    requests_per_minute: int | None = None
    limits: ClientLimits = UNLIMITED


def digest_of(key: str | bytes) -> bytes:
    """SHA-256. A plain hash will do, as keys are long and random, not passwords."""
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).digest()


def find_key(keys: Sequence[ApiKey], presented: bytes) -> ApiKey | None:
    """The key that a client presents. How long this takes tells nothing about the keys."""
    digest = digest_of(presented)
    found = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found
