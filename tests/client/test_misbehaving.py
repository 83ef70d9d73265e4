"""Both clients against a server that misbehaves."""

from __future__ import annotations

import asyncio
import json
import socket
import time

import pytest

from dit_client import (
    AnswerCut,
    AsyncClient,
    DeadlineExceeded,
    DeadlinePassed,
    InvalidAnswer,
    NoAnswer,
    Preview,
    Progress,
    QueueFull,
    Refused,
    Retry,
    RetryPolicy,
    ServiceError,
    Unauthorized,
    Unavailable,
)
from tests.client.conftest import Connect
from tests.support.misbehaving import (
    STREAM_HEAD,
    Script,
    hang_up,
    misbehaving,
    problem,
    raw,
    reset,
    respond,
    silence_after_head,
    stall,
)
from tests.support.services import PATIENCE_S, wait_until

PICTURE = {"index": 0, "seed": 7, "b64_json": "AAAA", "content_type": "image/png"}
GENERATION = {
    "images": [PICTURE],
    "parameters": {
        "class_label": 1,
        "class_name": "pear",
        "cfg_scale": 1,
        "num_sampling_steps": 2,
        "sampler": "ddim",
        "seed": 7,
        "guidance_interval": [0, 1],
    },
    "timings": {"queue": 0, "denoise": 0.1, "decode": 0.1, "encode": 0.1},
    "model": "small",
}
GOOD = respond(200, GENERATION)
IMAGE = f"event: image\ndata: {json.dumps(PICTURE)}\n\n".encode()
SUMMARY = json.dumps({name: GENERATION[name] for name in ("parameters", "timings", "model")})
DONE = f"event: done\ndata: {SUMMARY}\n\n".encode()
PROGRESS = b'event: progress\ndata: {"step": 1, "steps": 2, "ahead_in_queue": 0}\n\n'


WELL_S = 1.2
"""Enough for a request to arrive, even if the machine stands still for a second."""

LONG = 600
"""Parts of an answer that drips for half a minute."""

ROUNDED_S = 0.01


def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("exchange", "client", "async_client"):
        monkeypatch.setattr(f"dit_client.{module}.GRACE_S", 0.1)


@pytest.mark.parametrize(
    "trouble",
    [
        problem(429, Retry_After="0"),
        problem(503),
        respond(502, b"<html>Bad <b>gateway</b></html>", content_type="text/html"),
        reset,
        hang_up,
    ],
    ids=["429", "503", "502 of a proxy", "reset", "hung up"],
)
def test_it_is_sent_again(connect: Connect, trouble: Script) -> None:
    with misbehaving(trouble, trouble, GOOD) as server:
        assert connect(server.url).generate(1).image.seed == 7
        assert len(server.received) == 3
    with misbehaving(trouble, raw(STREAM_HEAD, PROGRESS, IMAGE, DONE)) as server:
        assert len(connect(server.url).events(1)) == 3
        assert len(server.received) == 2


@pytest.mark.parametrize("status", [400, 401, 404, 405, 408, 413, 415, 422, 499, 500, 501, 504])
def test_other_answers_are_final(connect: Connect, status: int) -> None:
    with misbehaving(problem(status), GOOD) as server:
        with pytest.raises(ServiceError) as caught:
            connect(server.url).generate(1)
        assert caught.value.status == status
        assert str(caught.value) == "so it is"
        assert isinstance(caught.value, Refused) is (status < 500)
        assert isinstance(caught.value, Unauthorized) is (status == 401)
        assert isinstance(caught.value, DeadlinePassed) is (status == 504)
        assert len(server.received) == 1


def test_it_waits_no_shorter_than_retry_after(connect: Connect) -> None:
    told: list[Retry] = []
    policy = RetryPolicy(first_s=0.01, on_retry=told.append)
    with misbehaving(problem(429, Retry_After="1"), GOOD) as server:
        connect(server.url, retries=policy).generate(1)
        first, second = server.received
        assert second.at - first.at >= 1.0
    assert [type(each.error) for each in told] == [QueueFull]
    assert 1.0 <= told[0].wait_s <= 1.25


def test_a_wait_beyond_the_deadline_is_not_waited(connect: Connect) -> None:
    with misbehaving(problem(503, Retry_After="30"), GOOD) as server:
        with pytest.raises(Unavailable) as caught:  # and not DeadlineExceeded, later
            connect(server.url).generate(1, timeout_s=5)
        assert caught.value.retry_after_s == 30
        assert len(server.received) == 1


def test_each_try_is_sent_the_time_that_is_left(connect: Connect) -> None:
    with misbehaving(problem(503, Retry_After="0"), GOOD) as server:
        began = time.monotonic()
        connect(server.url, retries=RetryPolicy(first_s=0.2)).generate(1, timeout_s=9)
        first, second = (each.fields["timeout_s"] for each in server.received)
        assert isinstance(first, float)
        assert isinstance(second, float)
        assert 9 - (server.received[0].at - began) - ROUNDED_S <= first <= 9
        assert second <= first - 0.2
        connect(server.url).generate(1)
        assert "timeout_s" not in server.received[-1].fields
        began = time.monotonic()
        connect(server.url, timeout_s=4).generate(1)
        (left,) = (server.received[-1].fields["timeout_s"],)
        assert isinstance(left, float)
        assert 4 - (server.received[-1].at - began) - ROUNDED_S <= left <= 4


def test_without_a_server_it_gives_up_after_a_few_tries(connect: Connect) -> None:
    told: list[Retry] = []
    policy = RetryPolicy(connections=3, first_s=0.01, on_retry=told.append)
    with misbehaving(hang_up) as server:
        pass
    with pytest.raises(NoAnswer, match="cannot connect to http://127"):
        connect(server.url, retries=policy).generate(1)
    assert len(told) == 2
    secret = server.url.replace("//", "//me:sesame@")
    with pytest.raises(NoAnswer) as caught:
        connect(secret, retries=policy).generate(1)
    assert "sesame" not in str(caught.value)


def test_a_part_of_an_answer_is_not_asked_for_again(connect: Connect) -> None:
    with misbehaving(respond(200, b'{"images": [', length=1000), GOOD) as server:
        with pytest.raises(AnswerCut):
            connect(server.url).generate(1)
        assert len(server.received) == 1


def test_a_server_that_does_not_answer_costs_the_callers_time_and_no_more(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_grace(monkeypatch)
    with misbehaving(stall) as server:
        with pytest.raises(DeadlineExceeded):
            connect(server.url).generate(1, timeout_s=WELL_S)
        assert server.left.wait(PATIENCE_S)


def test_a_head_that_drips_ends_with_the_callers_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A blocking read cannot be ended from outside, so this holds for `AsyncClient` alone."""
    short_grace(monkeypatch)

    async def call(url: str) -> None:
        async with AsyncClient(url) as client:
            await client.generate(1, timeout_s=0.2)

    with misbehaving(raw(b"HTTP/1.1 200 OK\r\nX: ", *[b"x"] * LONG, pause_s=0.05)) as server:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            asyncio.run(call(server.url))
        assert time.monotonic() - started < LONG * 0.05


def test_a_body_that_drips_ends_with_the_callers_time(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_grace(monkeypatch)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    with misbehaving(raw(head, *[b" "] * LONG, pause_s=0.05)) as server:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"within 0\.3 s"):
            connect(server.url).generate(1, timeout_s=0.3)
        assert time.monotonic() - started < LONG * 0.05


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), "does not speak HTTP"),
        (respond(200, b"<html>hello</html>", content_type="text/html"), "not JSON"),
        (respond(200, []), "not a JSON object"),
        (respond(200, {}), "images"),
        (respond(200, GENERATION | {"images": []}), "no images"),
        (respond(200, GENERATION | {"timings": {"queue": "x"}}), "queue"),
        (
            respond(200, GENERATION | {"parameters": {"guidance_interval": [1]}}),
            "guidance_interval",
        ),
        (respond(200, b"[" * 100_000), "not JSON"),
        (respond(200, b"no gzip", Content_Encoding="gzip"), "compression"),
    ],
)
def test_garbage_is_an_invalid_answer(connect: Connect, script: Script, words: str) -> None:
    with misbehaving(script) as server:
        with pytest.raises(InvalidAnswer, match=words):
            connect(server.url).generate(1)
        assert len(server.received) == 1


def test_an_answer_that_is_not_a_stream(connect: Connect) -> None:
    with misbehaving(GOOD) as server, pytest.raises(InvalidAnswer, match="event stream"):
        connect(server.url).events(1)


def test_a_stream_with_comments_unknown_events_and_split_lines(connect: Connect) -> None:
    parts = [
        b": ping\n\nevent: new",
        b'thing\ndata: {"x": 1}\n\n',
        PROGRESS[:20],
        PROGRESS[20:] + b'event: preview\r\ndata: {"index": 0,\r\ndata:  "b64_json": "AAAA"}\r',
        b"\n\r\n" + IMAGE,
        DONE,
    ]
    with misbehaving(raw(STREAM_HEAD, *parts, pause_s=0.02)) as server:
        events = connect(server.url).events(1)
    assert events[:2] == [Progress(1, 2, 0), Preview(0, b"\0\0\0")]
    assert len(events) == 4


@pytest.mark.parametrize("sent", [b"", PROGRESS, PROGRESS + IMAGE, IMAGE + DONE[:-1]])
def test_half_a_stream_is_cut(connect: Connect, sent: bytes) -> None:
    with misbehaving(raw(STREAM_HEAD, sent)) as server, pytest.raises(AnswerCut):
        connect(server.url).events(1)


def test_a_break_after_the_end_of_a_stream_costs_nothing(connect: Connect) -> None:
    head = STREAM_HEAD.replace(b"Connection: close", b"Content-Length: 100000")
    with misbehaving(raw(head, IMAGE, DONE)) as server:
        assert len(connect(server.url).events(1)) == 2


def test_an_error_in_a_stream(connect: Connect) -> None:
    members = {"status": 503, "title": "Unavailable", "detail": "the device is lost"}
    error = f"event: error\ndata: {json.dumps(members)}\n\n".encode()
    with misbehaving(raw(STREAM_HEAD, PROGRESS, error)) as server:
        with pytest.raises(Unavailable, match="device is lost") as caught:
            connect(server.url).events(1)
        assert caught.value.request_id == "abc"
        assert len(server.received) == 1


def test_a_silent_stream_ends_with_the_callers_time(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_grace(monkeypatch)
    with misbehaving(silence_after_head) as server:
        with pytest.raises(DeadlineExceeded):
            connect(server.url).events(1, timeout_s=WELL_S)
        assert server.left.wait(PATIENCE_S)


def test_leaving_a_stream_closes_the_connection(connect: Connect) -> None:
    def script(connection: socket.socket) -> None:
        raw(STREAM_HEAD, PROGRESS)(connection)
        stall(connection)
        left.append(True)

    left: list[bool] = []
    with misbehaving(script) as server:
        connect(server.url).events(1, count=1)
        wait_until(lambda: bool(left))


def test_a_key_is_sent_and_never_a_broken_one(connect: Connect) -> None:
    with misbehaving(GOOD) as server:
        connect(server.url, api_key="sesame").generate(1)
        connect(server.url).generate(1)
        with_key, without = server.received
        assert with_key.headers["authorization"] == "Bearer sesame"
        assert "authorization" not in without.headers
        assert with_key.headers["user-agent"].startswith("dit-client/")
        with pytest.raises(ValueError, match="API key"):
            connect(server.url, api_key="sesame\r\nX: y")


def test_health_takes_503_for_an_answer(connect: Connect) -> None:
    with misbehaving(problem(503, Retry_After="5"), problem(500)) as server:
        health = connect(server.url).health()
        assert not health.ready
        assert health.detail == "so it is"
        with pytest.raises(ServiceError):
            connect(server.url).health()
