"""Content codings: bodies are read as they were written, not compressed."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import Scope

from service.errors import UnsupportedMediaType


def refuse_codings(scope: Scope, headers: Headers) -> None:
    """Refuse every coding but identity, and say so in Accept-Encoding (RFC 9110, 15.5.16)."""
    given = ", ".join(headers.getlist("content-encoding"))
    if any(coding.strip().lower() not in ("", "identity") for coding in given.split(",")):
        raise UnsupportedMediaType(
            f"Content-Encoding is {given[:200]!r}; send the body uncompressed",
            {"Accept-Encoding": "identity"},
        )
