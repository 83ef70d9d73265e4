"""Cross-site requests: a page of another site must not make the service work.

A browser sends some POST requests of any page without asking the service first. It says in
Sec-Fetch-Site and Origin where they come from; other clients send neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from service.errors import CrossSiteRequest

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OWN_SITE = frozenset({"same-origin", "none"})  # none: typed in by the user
ANY = "*"


@dataclass(frozen=True, slots=True)
class CrossSiteGuard:
    """``origins`` are the other sites that are allowed, such as https://app.example."""

    origins: tuple[str, ...] = ()

    def __call__(self, scope: Scope, headers: Headers) -> None:
        origin = headers.get("origin", "")
        if scope["method"] in SAFE_METHODS or {origin, ANY} & set(self.origins):
            return
        if not _is_own_page(headers, origin):
            raise CrossSiteRequest(
                f"a page of {origin[:200] or 'another site'} sent this request; DIT_CORS_ORIGINS is"
                " the setting that allows other sites"
            )


def _is_own_page(headers: Headers, origin: str) -> bool:
    """Whether the request comes from a page of this service, or from no browser."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site.lower() in OWN_SITE
    return not origin or _authority(origin) == headers.get("host", "").lower()


def _authority(origin: str) -> str | None:
    """Host and port; the scheme is not compared, because a proxy may have ended TLS."""
    try:
        return urlsplit(origin.lower()).netloc or None
    except ValueError:
        return None
