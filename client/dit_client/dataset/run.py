"""Run: ask a service for every picture that is missing."""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import anyio
from anyio.abc import TaskGroup

from dit_client.async_client import AsyncClient
from dit_client.dataset.plan import Task
from dit_client.dataset.record import DatasetError
from dit_client.dataset.store import Store
from dit_client.dataset.window import Window
from dit_client.errors import (
    DeadlineExceeded,
    DeadlineImpossible,
    DitError,
    InvalidAnswer,
    NoAnswer,
    Overloaded,
    QueueFull,
    Refused,
)
from dit_client.options import Options
from dit_client.retries import SPREAD

TRIES = 4
"""Of a picture that the service fails to make, or not in time."""

FIRST_LOOK_S, LONGEST_LOOK_S = 0.2, 5.0
"""Between looks whether a service that was lost is back."""


@dataclass(slots=True, eq=False)
class Status:
    """What a run tells about itself."""

    total: int
    done: int
    made: int = 0
    in_flight: int = 0
    window: int = 0
    refusals: int = 0
    outages: int = 0
    waiting_for: str = ""
    failed: list[tuple[Task, DitError]] = field(default_factory=list)


class Run:
    """One run over the pictures that a store is missing.

    Args:
        client: without retries of its own.
        patience_s: how long to wait for a service that does not answer.
        on_change: called whenever the status has changed.
    """

    def __init__(
        self,
        client: AsyncClient,
        store: Store,
        *,
        window: Window,
        timeout_s: float | None = None,
        patience_s: float = 600.0,
        on_change: Callable[[Status], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._store = store
        self._window = window
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._on_change = on_change
        total = len(store.plan)
        self.status = Status(total, total - store.missing)
        self._options = cast(Options, dict(store.record.options))
        self._fresh = store.tasks()
        self._again: deque[Task] = deque()
        self._tries: Counter[int] = Counter()
        self._not_before = 0.0
        self._lost: DitError | None = None
        self._fatal: Exception | None = None
        self._changed = anyio.Event()

    async def run(self) -> Status:
        """
        Raises:
            DitError: the service refuses the requests, or did not come back in time.
            DatasetError: the service's model or defaults are no longer those of the data set.
            OSError: a picture could not be written.
        """
        async with anyio.create_task_group() as group:
            while self._fatal is None:
                if self._lost is not None:
                    await self._wait_until_back(self._lost)
                    continue
                if self._has_room():
                    task = self._again.popleft() if self._again else next(self._fresh, None)
                    if task is not None:
                        self._start(group, task)
                        continue
                    if self.status.in_flight == 0:
                        break
                await self._change()
            group.cancel_scope.cancel()
        if self._fatal is not None:
            raise self._fatal
        assert self._store.missing == len(self.status.failed), (
            "this is a bug: a picture was left out"
        )
        return self.status

    def _has_room(self) -> bool:
        """Whether a request may be sent now."""
        return time.monotonic() >= self._not_before and self.status.in_flight < self._window.limit

    def _start(self, group: TaskGroup, task: Task) -> None:
        self.status.in_flight += 1
        self._window.started(time.monotonic())
        group.start_soon(self._make, task)

    async def _change(self) -> None:
        """Wait until a request has ended, or the wait after a refusal."""
        wait_s = self._not_before - time.monotonic()
        if wait_s <= 0 and not self.status.in_flight:
            return
        with anyio.move_on_after(wait_s if wait_s > 0 else None):
            await self._changed.wait()
        self._changed = anyio.Event()

    async def _make(self, task: Task) -> None:
        sent = time.monotonic()
        try:
            options: Options = {**self._options, "seed": task.seed, "num_images": 1}
            generation = await self._client.generate(
                task.entry.id, timeout_s=self._timeout_s, **options
            )
            self._store.add(task, generation)
            self._window.finished(time.monotonic())
            self.status.done += 1
            self.status.made += 1
        except QueueFull as error:
            self._refused(task, error, sent)
        except (DeadlineImpossible, Refused, DatasetError, OSError) as error:
            self._fatal = self._fatal or error
        except (NoAnswer, Overloaded) as error:
            self._again.append(task)
            self._lost = self._lost or error
        except DeadlineExceeded as error:
            self._window.refused(sent, time.monotonic())
            self._fail(task, error)
        except DitError as error:
            self._fail(task, error)
        finally:
            self.status.in_flight -= 1
            self._tell()

    def _refused(self, task: Task, error: QueueFull, sent: float) -> None:
        now = time.monotonic()
        self._again.append(task)
        self._window.refused(sent, now)
        wait_s = (error.retry_after_s or 1.0) * (1 + SPREAD * random.random())
        self._not_before = max(self._not_before, now + wait_s)
        self.status.refusals += 1

    def _fail(self, task: Task, error: DitError) -> None:
        """Try a picture again, but not forever: the others go on."""
        self._tries[task.number] += 1
        if self._tries[task.number] < TRIES:
            self._again.append(task)
            return
        if isinstance(error, InvalidAnswer):
            self._fatal = self._fatal or error
        self.status.failed.append((task, error))

    async def _wait_until_back(self, error: DitError) -> None:
        """Look until the service takes requests again, then check that it is the same model."""
        self.status.outages += 1
        self.status.waiting_for = str(error)
        self._tell()
        ends, wait_s = time.monotonic() + self._patience_s, FIRST_LOOK_S
        while not await self._is_back():
            if time.monotonic() + wait_s > ends:
                self._fatal = self._fatal or error
                return
            await anyio.sleep(wait_s * (1 + SPREAD * random.random()))
            wait_s = min(LONGEST_LOOK_S, wait_s * 1.6)
        self._lost = None
        self.status.waiting_for = ""
        self._window.restart(time.monotonic())
        self._tell()

    async def _is_back(self) -> bool:
        try:
            if not (await self._client.health()).ready:
                return False
            digests = [model.digest for model in await self._client.models(timeout_s=10.0)]
        except DitError:
            return False
        if self._store.record.model_digest not in digests:
            words = f"the service now has another model, of digest {digests[0][:12]}…"
            self._fatal = self._fatal or DatasetError(words)
        return True

    def _tell(self) -> None:
        self.status.window = self._window.limit
        self._changed.set()
        self._on_change(self.status)
