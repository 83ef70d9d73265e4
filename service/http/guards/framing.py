"""Framing: a request's end must be where every proxy in front has seen it, too."""

from __future__ import annotations

from types import MappingProxyType

from starlette.datastructures import Headers
from starlette.types import Scope

from service.errors import MalformedRequest


def refuse_two_framings(scope: Scope, headers: Headers) -> None:
    """Refuse Transfer-Encoding where another recipient may go by something else (RFC 9112, 6.1).

    Its connection is closed, so that nothing behind it passes for a request.
    """
    if "transfer-encoding" not in headers:
        return
    if "content-length" in headers:
        raise _Unclear("the request has both Content-Length and Transfer-Encoding; send only one")
    if scope["http_version"] < "1.1":
        raise _Unclear("HTTP/1.0 has no Transfer-Encoding; send Content-Length")


def refuse_other_versions(scope: Scope, headers: Headers) -> None:
    """Refuse a request that says it is of another HTTP, such as the first line of HTTP/2."""
    if not scope["http_version"].startswith("1."):
        raise _Unclear("the request is not HTTP/1.0 or HTTP/1.1")


class _Unclear(MalformedRequest):
    headers = MappingProxyType({"Connection": "close"})
