"""Key list: the text that names the API keys and their limits, a key a line.

# name: key, or the SHA-256 of one; then limits
alice: KEY
batch: sha256:DIGEST requests_per_minute=60 max_images=4
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from service.http.keys.api_key import ApiKey, digest_of
from service.scheduling.jobs import ClientLimits

LEAST_LENGTH = 20
MOST_LENGTH = 512
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""What a Bearer header may hold (RFC 6750, 2.1)."""

DIGEST = re.compile(r"[0-9a-fA-F]{64}")
NUMBER = re.compile(r"[1-9][0-9]{0,8}")
HASHED = "sha256:"
LIMITS = ("requests_per_minute", "max_row_steps", "max_images")


class BadKeyList(ValueError):
    """Says what is wrong in which line, without repeating any of it: it may be a key."""


def parse_keys(lines: Iterable[str], unit: str = "line") -> tuple[ApiKey, ...]:
    """The keys of a list; empty lines and those that begin with # are passed over.

    Args:
        unit: what a line is called in errors.

    Raises:
        BadKeyList: there is no key, or a line is wrong.
    """
    names: dict[str, str] = {}
    digests: dict[bytes, str] = {}
    keys = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        place = f"{unit} {number}"
        try:
            key = _parse(line)
        except BadKeyList as error:
            raise BadKeyList(f"{place}: {error}") from None
        if key.name in names:
            raise BadKeyList(f"{place}: its name is that of {names[key.name]}")
        if key.digest in digests:
            raise BadKeyList(f"{place}: its key is that of {digests[key.digest]}")
        names[key.name] = digests[key.digest] = place
        keys.append(key)
    if not keys:
        raise BadKeyList("it has no key")
    return tuple(keys)


def _parse(line: str) -> ApiKey:
    name, colon, rest = line.strip().partition(":")
    if not colon:
        raise BadKeyList("it should be NAME: KEY, then limits")
    if not NAME.fullmatch(name):
        raise BadKeyList(
            "a name has 1 to 64 letters, digits, dots, hyphens and underscores, and begins with a"
            " letter or digit"
        )
    words = rest.split()
    if not words:
        raise BadKeyList("the key is missing")
    limits = _limits(words[1:])
    return ApiKey(
        name,
        _digest(words[0]),
        limits.get("requests_per_minute"),
        ClientLimits(limits.get("max_row_steps"), limits.get("max_images")),
    )


def _digest(key: str) -> bytes:
    if key.startswith(HASHED):
        digest = key.removeprefix(HASHED)
        if not DIGEST.fullmatch(digest):
            raise BadKeyList(f"after {HASHED} there should be 64 hexadecimal digits")
        return bytes.fromhex(digest)
    if not TOKEN.fullmatch(key):
        raise BadKeyList("a key has letters, digits and -._~+/ alone, and = at its end")
    if not LEAST_LENGTH <= len(key) <= MOST_LENGTH:
        raise BadKeyList(
            f"the key has {len(key)} characters; it should have {LEAST_LENGTH} to {MOST_LENGTH}"
        )
    return digest_of(key)


def _limits(words: Iterable[str]) -> dict[str, int]:
    limits: dict[str, int] = {}
    for word in words:
        name, _, number = word.partition("=")
        if name not in LIMITS:
            raise BadKeyList(
                f"after the key there may be {', '.join(f'{each}=N' for each in LIMITS)}"
            )
        if not NUMBER.fullmatch(number):
            raise BadKeyList(f"{name} should be an integer from 1 to 999999999")
        if name in limits:
            raise BadKeyList(f"{name} is given twice")
        limits[name] = int(number)
    return limits
