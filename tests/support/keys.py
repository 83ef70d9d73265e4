"""API keys of clients called alice and bob."""

from __future__ import annotations

from service.http.keys.api_key import digest_of
from service.http.keys.key_list import parse_keys
from service.http.keys.key_ring import KeyRing

ALICE = "ditkey_alice-abcdefghijklmnop"
BOB = "0123456789+/~.bob-987654321="


def key_ring(alice: str = "", bob: str = "") -> KeyRing:
    """Both keys, alice's by its digest alone, with their limits."""
    hashed = f"sha256:{digest_of(ALICE).hex()}"
    return KeyRing(parse_keys([f"alice: {hashed} {alice}", f"bob: {BOB} {bob}"]))


def bearer(key: str) -> dict[str, str]:
    """The header that a client sends."""
    return {"Authorization": f"Bearer {key}"}
