"""Client: the service's API, blocking."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TypeVar

import httpx
from typing_extensions import Self, Unpack

from dit_client import calls
from dit_client.calls import Answer, Call
from dit_client.errors import DeadlineExceeded, DitError, NoAnswer
from dit_client.events import Event, EventReader
from dit_client.exchange import (
    DEFAULT_URL,
    GRACE_S,
    LIMITS,
    answer_of,
    opened_stream,
    our_errors,
    settings,
)
from dit_client.options import Options
from dit_client.results import ClassEntry, Generation, Health, Model, Verification
from dit_client.retries import NO_RETRIES, Deadline, Final, Outcome, Pause, RetryPolicy, attempts

T = TypeVar("T")


class Client:
    """A connection to a service; several threads may share one. Use it as a context manager, or close it.

    Every call takes ``timeout_s``, the time that the caller has, tries included; /generate is sent what
    is left of it, so that the service drops what nobody waits for. Without one, the service's own limit
    applies, and 330 s here. Every call raises the errors of `dit_client.errors`.

    Args:
        url: the service's address, with the path if a proxy puts it under one.
        api_key: sent as `Authorization: Bearer`.
        timeout_s: of calls that name none.
        retries: when a request is sent again.
        transport: of httpx, for tests or special networks.

    Raises:
        ValueError: the URL, the key or the timeout is not valid.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_s: float | None = None,
        retries: RetryPolicy = RetryPolicy(),  # noqa: B008 - it is frozen
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._settings = settings(url, api_key, timeout_s, retries)
        self._http = httpx.Client(transport=transport, limits=LIMITS)

    def generate(
        self,
        class_label: int | str,
        *,
        timeout_s: float | None = None,
        **options: Unpack[Options],
    ) -> Generation:
        """Images of a class, given by id, name or synonym; one unless ``num_images`` says more."""
        return self._call(calls.generate(class_label, options), timeout_s)

    @contextmanager
    def stream(
        self,
        class_label: int | str,
        *,
        preview_every: int = 0,
        timeout_s: float | None = None,
        **options: Unpack[Options],
    ) -> Iterator[Iterator[Event]]:
        """The same images as events: `Progress`, `Preview` every so many steps, `Image`, and `Done`.

        Leaving the block closes the connection, and the service stops the images.
        """
        call = calls.stream(class_label, options, preview_every)
        deadline = self._settings.deadline(timeout_s)
        response = opened_stream(self._open(call, deadline, timeout_s, self._settings.retries))
        try:
            yield self._events(response, deadline)
        finally:
            response.close()

    def classes(
        self, search: str = "", *, timeout_s: float | None = None
    ) -> tuple[ClassEntry, ...]:
        """The classes; with ``search``, those with a name that contains it."""
        return self._call(calls.classes(search), timeout_s)

    def models(self, *, timeout_s: float | None = None) -> tuple[Model, ...]:
        """The models that are served, with their limits and defaults; at present one."""
        return self._call(calls.models(), timeout_s)

    def verify(
        self, file: bytes | str | os.PathLike[str], *, timeout_s: float | None = None
    ) -> Verification:
        """Whether an image, given as bytes or as a path, is what its metadata says."""
        return self._call(calls.verify(file), timeout_s)

    def health(self, *, timeout_s: float | None = 10.0) -> Health:
        """Whether the service takes requests. A 503 is an answer here and is not tried again."""
        return self._call(calls.health(), timeout_s, NO_RETRIES)

    def close(self) -> None:
        """Close the connections. Streams that are open end with an error."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, call: Call[T], timeout_s: float | None, policy: RetryPolicy | None = None) -> T:
        deadline = self._settings.deadline(timeout_s)
        final = self._open(call, deadline, timeout_s, policy or self._settings.retries)
        if isinstance(final, httpx.Response):
            final = self._read(final, deadline)
        return call.read(final)

    def _open(
        self, call: Call[object], deadline: Deadline, timeout_s: float | None, policy: RetryPolicy
    ) -> Final:
        """The response of the last attempt: open if it is a success, else read."""
        tries = attempts(deadline, policy)
        outcome: Outcome = None
        while True:
            try:
                step = tries.send(outcome)
            except StopIteration as end:
                final: Final = end.value
                return final
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                outcome = None
            else:
                outcome = self._attempt(
                    self._settings.request(self._http, call, step.left_s, timeout_s), deadline
                )

    def _attempt(self, request: httpx.Request, deadline: Deadline) -> Outcome:
        try:
            with our_errors(self._settings.url, deadline):
                response = self._http.send(request, stream=True)
            return response if response.is_success else self._read(response, deadline)
        except DitError as error:
            return error

    def _read(self, response: httpx.Response, deadline: Deadline) -> Answer:
        """The whole answer. However this ends, the response is closed."""
        try:
            return answer_of(response, b"".join(self._chunks(response, deadline)))
        finally:
            response.close()

    def _events(self, response: httpx.Response, deadline: Deadline) -> Iterator[Event]:
        reader = EventReader(response.headers)
        try:
            for chunk in self._chunks(response, deadline):
                yield from reader.feed(chunk)
        except (NoAnswer, DeadlineExceeded):
            if reader.generation is None:  # else nothing is missing
                raise
        reader.end()

    def _chunks(self, response: httpx.Response, deadline: Deadline) -> Iterator[bytes]:
        with our_errors(self._settings.url, deadline, answer_begun=True):
            for chunk in response.iter_bytes():
                deadline.check(GRACE_S)
                yield chunk
