"""Exchange: what the two clients share of talking HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from dit_client.calls import EVENTS, Answer, Call
from dit_client.errors import AnswerCut, InvalidAnswer, NoAnswer
from dit_client.retries import Deadline, Final, RetryPolicy
from dit_client.version import __version__
from dit_client.wire.problems import error_of

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT_S = 330.0
"""Of a call without one: a little more than the service's own limit is by default."""

CONNECT_S = 10.0
GRACE_S = 2.0
"""How much longer than the caller's time to wait for the service to say that it is over."""

LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=30.0)
"""Whoever calls decides how many requests are in flight. A service closes connections idle for 75 s."""

Client = httpx.Client | httpx.AsyncClient


@dataclass(frozen=True, slots=True)
class Settings:
    """Of a client: the service's address without a slash at its end, and defaults of its calls."""

    url: str
    headers: Mapping[str, str]
    timeout_s: float | None
    retries: RetryPolicy

    def deadline(self, timeout_s: float | None) -> Deadline:
        given = self.given(timeout_s)
        return Deadline.after(DEFAULT_TIMEOUT_S if given is None else given)

    def given(self, timeout_s: float | None) -> float | None:
        """The timeout that the caller asked for."""
        return self.timeout_s if timeout_s is None else timeout_s

    def request(
        self, http: Client, call: Call[object], left_s: float, timeout_s: float | None
    ) -> httpx.Request:
        """The request of one attempt. If the caller asked for a timeout, what is left of it is sent."""
        body = call.body
        if body is not None and call.sends_timeout and self.given(timeout_s) is not None:
            body = {**body, "timeout_s": max(round(left_s, 3), 0.001)}
        return http.build_request(
            call.method,
            self.url + call.path,
            params=call.query or None,
            json=body,
            content=call.content,
            headers={**self.headers, "Accept": call.accept},
            timeout=httpx.Timeout(left_s + GRACE_S, connect=min(CONNECT_S, left_s)),
        )


def settings(
    url: str, api_key: str | None, timeout_s: float | None, retries: RetryPolicy
) -> Settings:
    """
    Raises:
        ValueError: the URL or the timeout is not valid.
    """
    headers = {"User-Agent": f"dit-client/{__version__}"}
    if api_key:
        headers["Authorization"] = f"Bearer {_header_safe(api_key)}"
    if timeout_s is not None and not timeout_s > 0:
        raise ValueError(f"timeout_s is {timeout_s}; it must be more than 0")
    return Settings(checked_url(url), headers, timeout_s, retries)


def checked_url(url: str) -> str:
    """The URL without a slash at its end; `http://` is added where there is no scheme.

    Raises:
        ValueError: this is not the address of an HTTP service.
    """
    whole = url if "://" in url else f"http://{url}"
    try:
        parsed = httpx.URL(whole)
    except httpx.InvalidURL as error:
        raise ValueError(f"{url!r} is not a URL: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"{url!r} is not an http:// or https:// URL")
    if parsed.query or parsed.fragment:
        raise ValueError(f"{url!r} has a query or a fragment: give the service's address alone")
    return whole.rstrip("/")


@contextmanager
def our_errors(url: str, deadline: Deadline, *, answer_begun: bool = False) -> Iterator[None]:
    """Turn httpx's errors into ours. A password in the URL is not shown."""
    url = re.sub(r"//[^/@]*@", "//", url)
    try:
        yield
    except httpx.ConnectTimeout:
        raise NoAnswer(f"cannot connect to {url}: no answer within {CONNECT_S:g} s") from None
    except httpx.TimeoutException:
        raise deadline.exceeded() from None
    except httpx.TransportError as error:
        raise _transport_error(error, url, answer_begun) from error
    except httpx.DecodingError as error:
        raise InvalidAnswer(f"the answer's compression is broken: {error}") from error


def opened_stream(final: Final) -> httpx.Response:
    """The open response of a stream.

    Raises:
        ServiceError: the answer is an error.
        InvalidAnswer: it is not an event stream.
    """
    if isinstance(final, Answer):
        raise error_of(final.status, final.headers, final.content)
    content_type = final.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != EVENTS:
        raise InvalidAnswer(f"the answer is {content_type or 'of no type'}, not an event stream")
    return final


def answer_of(response: httpx.Response, content: bytes) -> Answer:
    return Answer(response.status_code, response.headers, content)


def _transport_error(
    error: httpx.TransportError, url: str, answer_begun: bool
) -> NoAnswer | InvalidAnswer:
    words = str(error) or type(error).__name__
    if answer_begun:
        return AnswerCut(f"the connection to {url} broke off: {words}")
    if isinstance(error, httpx.ConnectError):
        return NoAnswer(f"cannot connect to {url}: {words}")
    if isinstance(error, httpx.RemoteProtocolError) and "disconnected" not in words:
        return InvalidAnswer(f"{url} does not speak HTTP: {words}")
    return NoAnswer(f"the connection to {url} ended before an answer: {words}")


def _header_safe(api_key: str) -> str:
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise ValueError("the API key has characters that a header cannot hold")
    return api_key
