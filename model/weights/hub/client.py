"""The hub's client: requests that end, and what went wrong with one in a few words."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Unfinished
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Generic, Protocol, TypeVar

from huggingface_hub import HfApi, constants, set_client_factory
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils._http import default_client_factory

from model.weights.errors import first_line

T = TypeVar("T")

NOT_CACHED = "is not in the cache, and "
"""How problems begin that a cached copy would have made harmless."""

_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)
_ADVICE = {
    401: "the hub refuses access (401): check HF_TOKEN",
    403: "the hub refuses access (403): check what HF_TOKEN may do",
}


_ABANDONED: ContextVar[threading.Event | None] = ContextVar("_ABANDONED", default=None)
"""Set where nobody waits any longer for what the present thread does."""


class Silence(Exception):
    """The hub did not answer in time."""


class Stalled(Silence):
    """A download does not go on. It may hold the cache's lock, so another try could not begin."""


class NoHub(Exception):
    """What answers at this address is something else."""


class _Request(Protocol):
    extensions: dict[str, dict[str, float | None]]


@cache
def limit_requests() -> None:
    """Give every request of huggingface_hub a time-out; those for lists have none of their own.

    Once in a process: a second time would close connections in use.
    """

    def limit(request: _Request) -> None:
        abandoned = _ABANDONED.get()
        if abandoned is not None and abandoned.is_set():
            raise Stalled
        limits = request.extensions.get("timeout") or dict.fromkeys(
            ("connect", "read", "write", "pool")
        )
        request.extensions["timeout"] = {
            phase: constants.HF_HUB_ETAG_TIMEOUT if seconds is None else seconds
            for phase, seconds in limits.items()
        }

    def make_client():  # type: ignore[no-untyped-def]  # httpx's or httpx2's, by huggingface_hub's version
        client = default_client_factory()
        client.event_hooks["request"].append(limit)
        return client

    set_client_factory(make_client)


@dataclass(frozen=True, slots=True)
class Work(Generic[T]):
    """Work in a thread, and how to be rid of it: after ``abandoned`` it sends no more requests."""

    outcome: Future[T]
    abandoned: threading.Event


def in_thread(work: Callable[[], T]) -> Work[T]:
    """Begin work that may never end: a name's look-up and a trickling answer have no time-out."""
    begun: Work[T] = Work(Future(), threading.Event())

    def run() -> None:
        _ABANDONED.set(begun.abandoned)
        try:
            begun.outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - the caller's
            begun.outcome.set_exception(error)

    threading.Thread(target=run, name="hub", daemon=True).start()
    return begun


@dataclass(frozen=True, slots=True)
class Present:
    """What a branch, tag or commit stands for now: a commit, and the names of its files."""

    commit: str
    files: frozenset[str]


def ask_commit(
    repo_id: str, revision: str | None, endpoint: str | None, *, timeout_s: float
) -> Present:
    """Ask the hub what a branch, tag or commit stands for now.

    Raises:
        Silence: there is no answer within the time.
        Exception: any that huggingface_hub raises; `problem_with` says what it means.
    """

    def ask() -> Present:
        api = HfApi(endpoint=endpoint)
        try:
            found = api.model_info(repo_id, revision=revision, timeout=timeout_s)
        except HFValidationError:
            raise
        except (ValueError, TypeError) as error:
            raise NoHub(api.endpoint) from error
        if not isinstance(found.sha, str):
            raise NoHub(api.endpoint)
        return Present(found.sha, frozenset(each.rfilename for each in found.siblings or ()))

    asked = in_thread(ask)
    try:
        return asked.outcome.result(timeout_s)
    except Unfinished as error:
        asked.abandoned.set()
        raise Silence from error


def is_final(error: BaseException) -> bool:
    """Whether another try would end the same way."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code not in _TEMPORARY
    if isinstance(error, (OfflineModeIsEnabled, HFValidationError, Stalled)):
        return True
    if not isinstance(error, OSError) or isinstance(error, ConnectionError):
        return False
    return error.errno is not None  # the disk is full, or the cache is not ours


def problem_with(error: BaseException, revision: str | None) -> str:
    """What a request's exception means, to follow the repository's name."""
    if isinstance(error, GatedRepoError):
        return "is gated: accept its terms on the hub and set HF_TOKEN"
    if isinstance(error, RevisionNotFoundError):
        return f"has no revision {revision} on the hub"
    if isinstance(error, RepositoryNotFoundError):
        return "is neither a local folder nor on the hub (if it is private, set HF_TOKEN)"
    return _reason(error)


def _reason(error: BaseException) -> str:
    if isinstance(error, OfflineModeIsEnabled):
        return f"{NOT_CACHED}HF_HUB_OFFLINE is set"
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        advice = _ADVICE.get(status, f"the hub answers with status {status}")
        return f"{NOT_CACHED}{advice}"
    if isinstance(error, Silence) or "Timeout" in type(error).__name__:
        return f"{NOT_CACHED}the hub does not answer"
    if "ConnectError" in type(error).__name__:
        return f"{NOT_CACHED}the hub cannot be reached"
    if isinstance(error, NoHub):
        return f"{NOT_CACHED}{error} does not answer like a hub (is it a proxy's page?)"
    return f"download failed: {first_line(error)}"
