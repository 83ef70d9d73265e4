"""One request and its tries, with scripted replicas."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

import pytest

from service.errors import QueueFull, RateLimited, ServiceError, Unavailable
from service.fleet.exchange import Forwarded, Head, Load, Message, Part, Taken
from service.fleet.sending.dispatch import Dispatch, Errand, ReplicaLost, Terms
from service.fleet.sending.resending import Setback
from service.http.problems import problem

NOW = 100.0
HANGS_S = 60.0
PATH = "/generate"
PICTURE = b"a picture"
FULL = QueueFull("full", retry_after_s=3.0)
LIMITED = RateLimited("too many", limit="images", client="key", retry_after_s=3.0)
GONE = Unavailable("the device or the engine has failed", retry_after_s=5.0)

Script = bytes | ServiceError | type[ReplicaLost]


@dataclass(slots=True)
class Scripted:
    """Replicas that answer in this order, each by another one."""

    scripts: list[Script]
    path: str = PATH
    others: bool = True
    errands: list[Errand] = field(default_factory=list)

    def has_others(self, than: frozenset[str]) -> bool:
        return self.others

    async def send(self, errand: Errand) -> AsyncGenerator[Message, None]:
        number = len(self.errands)
        self.errands.append(errand)
        script = self.scripts[number]
        yield Taken(f"replica-{number}", Load(0, 0.0, ()))
        if isinstance(script, bytes):
            yield Head(200, ((b"content-type", b"image/png"),))
            yield Part(script, True, Load(0, 0.0, ()))
        elif isinstance(script, ServiceError):
            answer = problem(script, "an id", self.path)
            yield Head(answer.status_code, tuple(answer.raw_headers))
            yield Part(bytes(answer.body), True, Load(0, 0.0, ()))
        else:
            raise script


@dataclass(slots=True)
class Asker:
    head: Head | None = None
    body: bytes = b""
    ends: int = 0

    async def start(self, head: Head) -> None:
        assert self.head is None, "an answer began twice"
        self.head = head

    async def write(self, body: bytes, *, last: bool) -> None:
        self.body += body
        self.ends += last


def dispatched(
    replicas: Scripted, clock: Callable[[], float] = lambda: NOW
) -> tuple[Asker, list[Setback]]:
    client, setbacks = Asker(), list[Setback]()
    request = Forwarded("POST", replicas.path, replicas.path.encode(), b"", (), b"{}", seed=7)
    dispatch = Dispatch(
        replicas,
        Errand(request, 10),
        client,
        request_id="an id",
        terms=Terms(NOW, 60.0),
        on_setback=setbacks.append,
        clock=clock,
    )
    asyncio.run(asyncio.wait_for(dispatch.run(), HANGS_S))
    assert client.ends == 1
    return client, setbacks


def status_of(client: Asker) -> int:
    assert client.head is not None
    return client.head.status


@pytest.mark.parametrize("path", [PATH, "/v1/images/generations"])
@pytest.mark.parametrize(
    ("script", "setback"),
    [(ReplicaLost, Setback.LOST), (GONE, Setback.UNAVAILABLE), (FULL, Setback.FULL)],
)
def test_another_replica_answers(script: Script, setback: Setback, path: str) -> None:
    replicas = Scripted([script, PICTURE], path)
    client, setbacks = dispatched(replicas)
    assert (status_of(client), client.body, setbacks) == (200, PICTURE, [setback])
    assert replicas.errands[1].avoid == {"replica-0"}
    assert replicas.errands[1].request.seed == 7


def test_the_second_refusal_is_passed_on_with_its_time() -> None:
    client, _ = dispatched(Scripted([FULL, QueueFull("full", retry_after_s=9.0)]))
    assert status_of(client) == 429
    assert client.head is not None
    assert client.head.header(b"retry-after") == b"9"


def test_a_full_replica_without_others_is_not_asked_again() -> None:
    replicas = Scripted([FULL, PICTURE], others=False)
    assert status_of(dispatched(replicas)[0]) == 429
    assert len(replicas.errands) == 1


def test_the_limit_of_a_key_is_the_same_everywhere() -> None:
    replicas = Scripted([LIMITED, PICTURE])
    assert status_of(dispatched(replicas)[0]) == 429
    assert len(replicas.errands) == 1


def test_full_then_lost_is_three_tries_and_no_more() -> None:
    replicas = Scripted([FULL, ReplicaLost, ReplicaLost, PICTURE])
    assert status_of(dispatched(replicas)[0]) == 503
    assert len(replicas.errands) == 3


def test_what_failed_twice_says_what_the_replica_said() -> None:
    client, _ = dispatched(Scripted([GONE, GONE]))
    assert status_of(client) == 503
    assert json.loads(client.body)["detail"] == GONE.detail


def test_nothing_is_sent_again_after_the_deadline() -> None:
    replicas = Scripted([ReplicaLost, PICTURE])
    client, setbacks = dispatched(replicas, lambda: NOW + 61.0 * len(replicas.errands))
    assert (status_of(client), setbacks, len(replicas.errands)) == (503, [], 1)


def test_nothing_is_sent_at_all_after_the_deadline() -> None:
    replicas = Scripted([PICTURE])
    client, _ = dispatched(replicas, lambda: NOW + 61.0)
    assert (status_of(client), replicas.errands) == (504, [])


def test_a_replica_learns_how_long_ago_the_request_arrived() -> None:
    replicas = Scripted([PICTURE])
    dispatched(replicas, lambda: NOW + 1.5)
    assert replicas.errands[0].request.elapsed_s == 1.5


def test_a_silent_replica_does_not_hold_a_request_beyond_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Silent(Scripted):
        async def send(self, errand: Errand) -> AsyncGenerator[Message, None]:
            yield Taken("replica-0", Load(0, 0.0, ()))
            await asyncio.Event().wait()

    monkeypatch.setattr("service.fleet.sending.dispatch.LATE_S", 0.01)
    client, _ = dispatched(Silent([]), lambda: NOW + 59.99)
    assert status_of(client) == 504
