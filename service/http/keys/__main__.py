"""A new random API key, to standard error, and the key file's line for it, to standard output."""

from __future__ import annotations

import argparse
import secrets
import sys

from service.http.keys.api_key import digest_of
from service.http.keys.key_list import HASHED, NAME

PREFIX = "ditkey_"
"""By which people and programs that look for leaked secrets know what it is."""


def new_key() -> str:
    """256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def line_of(name: str, key: str) -> str:
    """The line of a key file, which cannot be turned back into the key."""
    return f"{name}: {HASHED}{digest_of(key).hex()}"


def main(arguments: list[str]) -> None:
    """The key is kept nowhere."""
    parser = argparse.ArgumentParser(prog="python -m service.http.keys", description=__doc__)
    parser.add_argument("name", help="the client's name, as logs and metrics show it")
    name = parser.parse_args(arguments).name
    if not NAME.fullmatch(name):
        parser.error("a name has 1 to 64 letters, digits, dots, hyphens and underscores")
    key = new_key()
    print(key, file=sys.stderr)
    print(line_of(name, key))


if __name__ == "__main__":
    main(sys.argv[1:])
