"""Callers: clients in threads that ask for pictures until told to stop, and what came of it."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from dit_client import Client, DitError, Retry, RetryPolicy

SEEDS = 8
WAIT_S = 120.0


def body_of(seed: int, steps: int) -> dict[str, object]:
    return {"class_label": seed % 5, "seed": seed, "num_sampling_steps": steps, "cfg_scale": 1.5}


@dataclass(slots=True, eq=False)
class Calls:
    """What the callers got. ``pictures``: by seed, every different one that came."""

    answered: int = 0
    errors: list[str] = field(default_factory=list)
    retries: Counter[str] = field(default_factory=Counter)
    pictures: dict[int, set[bytes]] = field(default_factory=dict)
    slowest_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note_retry(self, retry: Retry) -> None:
        with self.lock:
            self.retries[type(retry.error).__name__] += 1

    def call(self, client: Client, seed: int, steps: int) -> None:
        began = time.monotonic()
        try:
            body = body_of(seed, steps)
            made = client.generate(seed % 5, timeout_s=WAIT_S, extra=body)
        except DitError as error:
            with self.lock:
                self.errors.append(f"{type(error).__name__}: {error}")
            return
        with self.lock:
            self.answered += 1
            self.pictures.setdefault(seed, set()).add(made.image.data)
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)


@contextmanager
def callers(
    url: str, *, clients: int, attempts: int, steps: int, pause_s: float = 0.0
) -> Iterator[Calls]:
    """Ask through our own client, which tries so often, until the block ends; then wait for the last."""
    calls, over = Calls(), threading.Event()
    policy = RetryPolicy(attempts=attempts, on_retry=calls.note_retry)

    def work(first: int) -> None:
        with Client(url, retries=policy) as client:
            for seed in itertools.count(first):
                if over.is_set():
                    return
                calls.call(client, seed % SEEDS, steps)
                over.wait(pause_s)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield calls
    finally:
        over.set()
        for thread in threads:
            thread.join()


@dataclass(frozen=True, slots=True)
class Sent:
    """A request without retries: when it was sent and answered, and how."""

    at: float
    ended: float
    outcome: str


def send(connection: http.client.HTTPConnection, body: Mapping[str, object]) -> str:
    """The status of the answer, or why there is none; "cut" if it broke off."""
    try:
        connection.request("POST", "/generate", json.dumps(body))
        answer = connection.getresponse()
    except ConnectionRefusedError:
        return "refused"
    except (ConnectionError, http.client.RemoteDisconnected):
        connection.close()
        return "unread"
    try:
        answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return "cut"
    if answer.status == 503 and answer.headers["Retry-After"] is None:
        return "503 without Retry-After"
    return str(answer.status)


@contextmanager
def bare_callers(host: str, *, clients: int, steps: int) -> Iterator[list[Sent]]:
    """Ask on kept connections, with no second try, until the service refuses to talk."""
    sent: list[Sent] = []

    def work(first: int) -> None:
        connection = http.client.HTTPConnection(host, timeout=WAIT_S)
        for seed in itertools.count(first):
            began = time.monotonic()
            outcome = send(connection, body_of(seed % SEEDS, steps))
            sent.append(Sent(began, time.monotonic(), outcome))
            if outcome == "refused":
                return
            if outcome != "200":
                time.sleep(0.02)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    yield sent
    for thread in threads:
        thread.join(WAIT_S)
