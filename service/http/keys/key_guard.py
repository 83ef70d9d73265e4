"""KeyGuard: lets in requests with a valid API key, as often as its rate allows."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import Scope

from service.errors import Unauthorized
from service.http.keys.api_key import ApiKey
from service.http.keys.key_ring import KeyRing
from service.http.keys.request_rates import RequestRates

OPEN = frozenset({"/livez", "/readyz", "/", "/docs", "/openapi.json"})
OPEN_FOLDER = "/playground/"
"""Probes, and pages on which a key can be entered, with their parts."""

METRICS = "/metrics"
BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE)


class KeyGuard:
    """Sets ``request.state.key``. Requests that ask for work, those with POST, count for the rate.

    Args:
        metrics_open: whether /metrics needs no key.
    """

    def __init__(
        self,
        ring: KeyRing,
        *,
        metrics_open: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ring = ring
        self._open = OPEN | {METRICS} if metrics_open else OPEN
        self._rates = RequestRates(clock)

    def needs_key(self, path: str) -> bool:
        """Whether requests for a path need a key; made-up ones do."""
        return path not in self._open and not path.startswith(OPEN_FOLDER)

    def __call__(self, scope: Scope, headers: Headers) -> None:
        """Refuse a request without a valid key, or beyond its rate."""
        if not self.needs_key(scope["path"]):
            return
        key = scope["state"]["key"] = self._key_in(headers)
        if scope["method"] == "POST":
            self._rates.count(key)

    def _key_in(self, headers: Headers) -> ApiKey:
        given = headers.getlist("authorization")
        if not given:
            raise Unauthorized(
                "an API key is needed: send it as Authorization: Bearer KEY", rejection="missing"
            )
        bearer = BEARER.fullmatch(given[0].strip()) if len(given) == 1 else None
        if bearer is None:
            raise Unauthorized(
                "Authorization should be Bearer and an API key, and be sent once",
                rejection="missing",
            )
        key = self._ring.find(bearer[1].encode("latin-1"))
        if key is None:
            raise Unauthorized(
                "the API key is not valid",
                rejection="unknown",
                challenge='Bearer error="invalid_token"',
            )
        return key


def key_of(scope: Scope) -> ApiKey | None:
    """The key with which a request was let in; None where no keys are needed."""
    key = scope.get("state", {}).get("key")
    assert key is None or isinstance(key, ApiKey), "this is a bug: KeyGuard sets it"
    return key
