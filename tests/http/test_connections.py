"""Connections: clients that close half of one, send slowly, do not read, or are too many."""

from __future__ import annotations

import asyncio
import errno
import functools
import json
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast

import h11
import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs
from uvicorn.server import ServerState

from service.http.connections.answer_start import START, AnswerStart
from service.http.connections.connection import SLOWEST_BYTES_PER_S, Connection
from service.http.connections.descriptors import (
    ENOUGH,
    raise_descriptor_limit,
    room_for_connections,
)
from service.http.connections.limits import ConnectionLimits
from service.http.connections.record import ConnectionRecord
from service.http.connections.table import SPARE, ConnectionTable
from service.metrics import Metrics
from tests.support.raw import connect, post, read_all
from tests.support.requests import PICTURE, gated_service
from tests.support.services import (
    PATIENCE_S,
    GatedRunner,
    Running,
    load_small_checkpoint,
    load_small_runner,
    running_service,
    wait_until,
)

LONG = PICTURE | {"num_sampling_steps": 1000}
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
HASTY_HEAD = ConnectionLimits(head_s=0.1)
HASTY_BODY = ConnectionLimits(body_s=0.1)


@contextmanager
def limited_service(
    folder: Path, limits: ConnectionLimits, *, wait_ready: bool = False
) -> Iterator[Running]:
    """A service with these limits; by default it need not have its model yet."""
    load = functools.partial(load_small_runner, folder)
    with running_service(load, connection_limits=limits, wait_ready=wait_ready) as running:
        yield running


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """What comes up to ``end``."""
    received = b""
    while not received.endswith(end):
        byte = connection.recv(1)
        assert byte, received
        received += byte
    return received


def cut(service: Running, reason: str) -> float:
    return service.metric("dit_connections_cut_total", reason=reason)


# Half-closed


PNG_END = b"IEND\xaeB`\x82"
EVENTS = "Accept: text/event-stream"
PING = b": ping\n\n"


@pytest.mark.parametrize(
    ("request_bytes", "sign", "end"),
    [
        (post(), b"H", PNG_END),
        (post(PICTURE, "Connection: close"), b"H", PNG_END),
        (post(version="1.0"), b"H", PNG_END),
        (post(PICTURE, EVENTS), PING, b"}\n\n\r\n0\r\n\r\n"),
        (post(PICTURE, EVENTS, version="1.0"), PING, b"}\n\n"),
    ],
)
def test_a_client_that_closes_its_sending_end_gets_its_answer(
    pipeline_folder: Path, request_bytes: bytes, sign: bytes, end: bytes
) -> None:
    with gated_service(pipeline_folder) as (running, runner):
        with connect(running, request_bytes) as connection:
            wait_until(lambda: running.queue_row_steps > 0)
            connection.shutdown(socket.SHUT_WR)
            answer = read_until(connection, sign)  # the service has noticed
            runner.open()
            answer += read_all(connection)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(end)
        labels = {"route": "/generate", "outcome": "ok"}
        wait_until(lambda: running.metric("dit_requests_total", **labels) == 1)


def test_pipelined_requests_before_a_half_close_are_all_answered(service: Running) -> None:
    with connect(service, post() * 3) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection).count(b"HTTP/1.1 200 OK\r\n") == 3


def test_a_request_that_a_half_close_cuts_off_is_not_answered(service: Running) -> None:
    with connect(service, post()[:-1]) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b""


@pytest.mark.parametrize(("accept", "sign"), [("Accept: image/png", b"H"), (EVENTS, PING)])
def test_a_client_that_leaves_after_a_half_close_frees_its_rows(
    pipeline_folder: Path, accept: str, sign: bytes
) -> None:
    with gated_service(pipeline_folder) as (running, runner):
        with connect(running, post(LONG, accept)) as connection:
            wait_until(lambda: running.queue_row_steps > 0)
            connection.shutdown(socket.SHUT_WR)
            read_until(connection, sign)
        labels = {"route": "/generate", "outcome": "cancelled"}
        wait_until(lambda: running.metric("dit_requests_total", **labels) == 1)
        runner.let(1)
        wait_until(lambda: running.queue_row_steps == 0)


def test_a_peer_that_vanishes_is_noticed(service: Running) -> None:
    with connect(service, LIVEZ) as connection:
        read_until(connection, b'{"status":"alive"}')
        (ours,) = (
            each.transport.get_extra_info("socket")
            for each in list(service.server.server_state.connections)
            if isinstance(each, Connection) and each.client == connection.getsockname()
        )
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_bytes_sent_ahead_are_not_sent_again() -> None:
    def answer(ahead: int) -> bytes:
        connection = AnswerStart(1000)
        connection.receive_data(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while connection.next_event() is not h11.PAUSED and connection.our_state is h11.IDLE:
            pass
        sent = b"".join(connection.next_byte() for _ in range(ahead))
        sent += connection.send(h11.Response(status_code=204, headers=[], reason=b"x"))
        assert connection.produced == len(sent)
        return sent

    assert {answer(ahead) for ahead in range(len(START) + 3)} == {b"HTTP/1.1 204 x\r\n\r\n"}


# Slow senders


@pytest.mark.parametrize("whole", [b"GET /livez HTTP/1.1\r\nHost", b"GET /livez HTTP/1.1\r\n"])
def test_a_head_that_does_not_arrive_in_time_gets_408(pipeline_folder: Path, whole: bytes) -> None:
    with (
        limited_service(pipeline_folder, HASTY_HEAD) as running,
        capture_logs() as logs,
        connect(running, whole) as connection,
    ):
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        problem = json.loads(body)
        assert f"x-request-id: {problem['request_id']}".encode() in head
        assert "head took too long" in problem["detail"]
        assert running.metric("dit_requests_total", route="unmatched", outcome="invalid") == 1
        assert cut(running, "slow request head") == 1
    assert any(each.get("slow_request_head") == 1 for each in logs)


def test_a_head_that_trickles_is_too_slow_as_a_whole(pipeline_folder: Path) -> None:
    with (
        limited_service(pipeline_folder, HASTY_HEAD) as running,
        connect(running, b"GET /") as connection,
    ):
        connection.settimeout(0.005)
        ends = time.monotonic() + PATIENCE_S
        while not closed_after(connection, b"x"):
            assert time.monotonic() < ends
        assert cut(running, "slow request head") == 1


def closed_after(connection: socket.socket, data: bytes) -> bool:
    """Send ``data``; whether the other side has answered or closed."""
    try:
        connection.send(data)
        connection.recv(1)
    except TimeoutError:
        return False
    except ConnectionError:  # it closed before it could read our last byte
        return True
    return True


def test_a_connection_without_a_request_is_closed_silently(pipeline_folder: Path) -> None:
    with limited_service(pipeline_folder, HASTY_HEAD) as running, connect(running) as connection:
        assert read_all(connection) == b""


def test_a_body_that_does_not_arrive_in_time_gets_408(pipeline_folder: Path) -> None:
    with (
        limited_service(pipeline_folder, HASTY_BODY, wait_ready=True) as running,
        connect(running, post()[:-1]) as connection,
    ):
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert json.loads(body)["type"] == "urn:dit-service:request-timeout"
        labels = {"route": "/generate", "outcome": "invalid"}
        wait_until(lambda: running.metric("dit_requests_total", **labels) == 1)


def test_a_body_that_nothing_reads_is_not_waited_for_longer(pipeline_folder: Path) -> None:
    request = post(path="/nowhere")[:-1]
    with (
        limited_service(pipeline_folder, HASTY_BODY) as running,
        connect(running, request) as connection,
    ):
        assert read_all(connection).startswith(b"HTTP/1.1 404 ")
        assert cut(running, "slow request body") == 1


def test_a_body_that_ends_after_its_answer_leaves_a_connection_that_is_closed_when_idle(
    pipeline_folder: Path,
) -> None:
    limits = ConnectionLimits(keep_alive_s=0.1)
    request = post(path="/nowhere")
    with (
        limited_service(pipeline_folder, limits) as running,
        connect(running, request[:-1]) as connection,
    ):
        assert read_until(connection, b"}").startswith(b"HTTP/1.1 404 ")
        connection.sendall(request[-1:])
        assert read_all(connection) == b""


def test_an_idle_connection_is_closed_after_the_setting(pipeline_folder: Path) -> None:
    limits = ConnectionLimits(keep_alive_s=0.1)
    with limited_service(pipeline_folder, limits) as running, connect(running, LIVEZ) as idle:
        assert read_all(idle).startswith(b"HTTP/1.1 200 ")


def test_the_time_for_a_later_head_begins_with_its_first_byte(pipeline_folder: Path) -> None:
    limits = ConnectionLimits(head_s=0.5)
    end = b'{"status":"alive"}'
    with limited_service(pipeline_folder, limits) as running, connect(running, LIVEZ) as connection:
        read_until(connection, end)
        began = time.monotonic()
        wait_until(lambda: time.monotonic() > began + 2 * limits.head_s)
        connection.sendall(LIVEZ)
        read_until(connection, end)
        connection.sendall(LIVEZ[:-2])
        assert read_all(connection).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "request_bytes",
    [
        "GET /classes?q=Crème HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"PRI * HTTP/2.0\r\nHost: x\r\n\r\n",
        b"POST /generate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
def test_what_is_not_http_is_answered_in_our_form(service: Running, request_bytes: bytes) -> None:
    with connect(service, request_bytes) as connection:
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\ncontent-type: application/problem+json\r\n" in head
    problem = json.loads(body)
    assert (problem["type"], problem["status"]) == ("urn:dit-service:malformed-request", 400)
    assert len(problem["request_id"]) == 32
    assert f"x-request-id: {problem['request_id']}".encode() in head


def test_a_bad_chunk_is_answered_and_logged_under_the_id_that_the_client_sent(
    service: Running,
) -> None:
    head = (
        "POST /generate HTTP/1.1\r\nHost: x\r\nX-Request-Id: own\r\nTransfer-Encoding: chunked\r\n"
    )
    with capture_logs([merge_contextvars]) as lines:
        with connect(service, f"{head}\r\nzz\r\n".encode()) as connection:
            assert b"\r\nx-request-id: own\r\n" in read_all(connection)
        wait_until(lambda: "own" in ids_of_refused(lines))
    assert ids_of_refused(lines).count("own") == 1


@pytest.mark.parametrize("path", ["/nowhere", "/generate"])
def test_a_bad_chunk_right_behind_its_head_gets_one_answer_and_no_traceback(
    service: Running, path: str
) -> None:
    """The application that begins with the head finds its answer given."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with capture_logs() as lines:
        with connect(service, head.encode() + b"zz\r\n") as connection:
            answer = read_all(connection)
        wait_until(lambda: any(each["event"] == "request" for each in lines))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert not [each for each in lines if each["log_level"] == "error"]


def ids_of_refused(lines: Sequence[Mapping[str, object]]) -> list[object]:
    """The ids of requests answered with 400; others may be logged late."""
    requests = (line for line in lines if line["event"] == "request")
    return [line["request_id"] for line in requests if line["status"] == 400]


def test_no_more_of_a_head_is_kept_than_is_read(service: Running) -> None:
    """What has no end is refused when it is too large, not when it has taken too long."""
    begun = b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 40_000
    with connect(service, begun) as connection:
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"more than 32768 bytes" in answer


def test_a_request_for_another_protocol_is_answered_in_this_one_and_logged_once(
    service: Running, caplog: pytest.LogCaptureFixture
) -> None:
    upgrade = "Connection: Upgrade, close\r\nUpgrade: websocket\r\nX-Request-Id: up\r\n"
    with capture_logs([merge_contextvars]) as lines:
        with connect(service, f"GET /nowhere HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n".encode()) as one:
            assert read_all(one).startswith(b"HTTP/1.1 404 ")
        wait_until(lambda: any(each.get("request_id") == "up" for each in lines))
    assert [each["event"] for each in lines if each.get("request_id") == "up"] == ["request"]
    assert not [each for each in caplog.records if each.name.startswith("uvicorn")]


# Empty lines


@pytest.mark.parametrize("before", ["\r\n", "\n", "\r\n\r\n\n", "\r\n" * 1000])
def test_empty_lines_before_a_request_are_passed_over(service: Running, before: str) -> None:
    with connect(service) as connection:
        for _ in range(2):
            connection.sendall(before.encode() + LIVEZ)
            assert read_until(connection, b'"}').startswith(b"HTTP/1.1 200 ")


def test_a_line_end_behind_a_body_does_not_break_the_next_request(service: Running) -> None:
    closing = LIVEZ.replace(b"Host: x", b"Host: x\r\nConnection: close")
    with connect(service, post() + b"\r\n" + closing) as connection:
        answers = read_all(connection)
    assert [answers.count(b"HTTP/1.1 200 "), answers.count(b"HTTP/1.1 ")] == [2, 2]


def test_an_empty_line_may_arrive_in_halves() -> None:
    parser = AnswerStart(1000)
    for byte in b"\r\n\r\n":
        parser.receive_data(bytes([byte]))
        assert parser.next_event() is h11.NEED_DATA
    parser.receive_data(LIVEZ)
    assert isinstance(parser.next_event(), h11.Request)


def test_a_bare_carriage_return_is_no_empty_line() -> None:
    parser = AnswerStart(1000)
    parser.receive_data(b"\r" + LIVEZ)
    with pytest.raises(h11.RemoteProtocolError):
        parser.next_event()


def test_empty_lines_do_not_keep_an_idle_connection(pipeline_folder: Path) -> None:
    limits = ConnectionLimits(keep_alive_s=0.1)
    with (
        limited_service(pipeline_folder, limits) as running,
        connect(running, LIVEZ) as connection,
    ):
        read_until(connection, b'"}')
        connection.sendall(b"\r\n")
        assert read_all(connection) == b""


# Slow readers


ANSWER_BYTES = 2**24


async def large_answer(scope: Scope, receive: Receive, send: Send) -> None:
    """More than the operating system takes on its own."""
    start: Message = {"type": "http.response.start", "status": 200, "headers": []}
    if scope["type"] == "http":
        await send(start)
        await send({"type": "http.response.body", "body": bytes(ANSWER_BYTES)})


@contextmanager
def serving_large_answers(limits: ConnectionLimits, metrics: Metrics) -> Iterator[int]:
    """A server of these connections without an engine; gives its port."""
    protocol = functools.partial(
        Connection, limits=limits, table=ConnectionTable(100), record=ConnectionRecord(metrics)
    )
    config = uvicorn.Config(
        large_answer,
        port=0,
        http=protocol,  # type: ignore[arg-type]
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=int(PATIENCE_S),
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@pytest.mark.parametrize("close", ["", "Connection: close\r\n"])
def test_an_answer_that_nobody_takes_is_given_up(close: str) -> None:
    metrics = Metrics()
    request = f"GET / HTTP/1.1\r\nHost: x\r\n{close}\r\n".encode()
    with (
        serving_large_answers(ConnectionLimits(send_s=0.1), metrics) as port,
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection,
    ):
        connection.sendall(request)
        sample = functools.partial(
            metrics.registry.get_sample_value,
            "dit_connections_cut_total",
            {"reason": "slow reader"},
        )
        wait_until(lambda: sample() == 1)
        assert len(read_all(connection)) < ANSWER_BYTES


class Clock:
    """Stands in for an event loop: its timers run when the test says so."""

    def __init__(self) -> None:
        self.timers: list[functools.partial[None]] = []

    def call_later(self, delay_s: float, act: Callable[..., None], *given: object) -> Clock:
        self.timers.append(functools.partial(act, *given))
        return self

    def cancel(self) -> None:
        """As a timer's handle."""

    def run_last(self) -> None:
        self.timers.pop()()


class Pipe(asyncio.Transport):
    """A transport with a client that takes what the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.unsent = 0
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.unsent += len(data)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


def test_an_answer_that_is_taken_slowly_is_not_given_up() -> None:
    clock, pipe, limits = Clock(), Pipe(), ConnectionLimits(send_s=10.0)
    connection = Connection(
        uvicorn.Config(large_answer, log_config=None),
        ServerState(),
        {},
        cast(asyncio.AbstractEventLoop, clock),
        limits=limits,
        table=ConnectionTable(1),
        record=ConnectionRecord(Metrics()),
    )
    connection.connection_made(pipe)
    connection.conn.receive_data(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    connection.conn.next_event()
    headers = [("Content-Length", "1000000")]
    pipe.write(connection.conn.send(h11.Response(status_code=200, headers=headers)))
    pipe.write(connection.conn.send(h11.Data(data=bytes(100_000))))
    connection.pause_writing()
    slowest = int(SLOWEST_BYTES_PER_S * limits.send_s)
    for _ in range(3):  # more is written than taken
        pipe.unsent -= slowest
        pipe.write(connection.conn.send(h11.Data(data=bytes(2 * slowest))))
        clock.run_last()
        assert not pipe.aborted
    pipe.unsent -= slowest - 1
    clock.run_last()
    assert pipe.aborted


def test_a_connection_that_the_client_resets_leaves_no_timer() -> None:
    async def reset() -> None:
        connection = Connection(
            uvicorn.Config(large_answer, log_config=None),
            ServerState(),
            {},
            asyncio.get_running_loop(),
            limits=ConnectionLimits(),
            table=ConnectionTable(1),
            record=ConnectionRecord(Metrics()),
        )
        connection.connection_made(Pipe())
        connection.on_response_complete()
        idle = connection.timeout_keep_alive_task
        assert idle is not None
        connection.connection_lost(ConnectionResetError())
        assert idle.cancelled()

    asyncio.run(reset())


# Too many


def few(limit: int) -> ConnectionLimits:
    return ConnectionLimits(max_connections=limit)


def test_beyond_the_limit_the_connection_idle_for_longest_makes_room(
    pipeline_folder: Path,
) -> None:
    with limited_service(pipeline_folder, few(3)) as running, ExitStack() as stack:
        idle = [stack.enter_context(connect(running)) for _ in range(10)]
        wait_until(lambda: running.client.get("/livez").status_code == 200)
        assert cut(running, "displaced") >= 8
        assert [read_all(each) for each in idle[:8]] == [b""] * 8
        with connect(running, post(PICTURE, "Expect: 100-continue")[:-1]) as half:
            read_until(half, b"HTTP/1.1 100 Continue\r\n\r\n")
            for _ in range(4):
                stack.enter_context(connect(running))
            assert read_all(half).startswith(b"HTTP/1.1 503 ")


def test_if_all_connections_have_work_only_probes_are_answered(pipeline_folder: Path) -> None:
    runner = GatedRunner(load_small_checkpoint(pipeline_folder))
    with (
        running_service(lambda: runner, connection_limits=few(2)) as running,
        ExitStack() as stack,
    ):
        runner.close()
        busy = [stack.enter_context(connect(running, post())) for _ in range(2)]
        wait_until(lambda: running.queue_row_steps == 2 * 2 * 2)
        for path in ("/livez", "/readyz", "/metrics"):
            assert running.client.get(path).status_code == 200
        refused = running.client.get("/models")
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert refused.headers["Connection"] == "close"
        assert "too many connections" in refused.json()["detail"]
        runner.open()
        for each in busy:
            assert each.recv(12) == b"HTTP/1.1 200"
        wait_until(lambda: running.client.get("/models").status_code == 200)


class Seat:
    """A connection for the table."""

    def __init__(self, unsent: int = 0) -> None:
        self.unsent = unsent
        self.log: list[str] = []

    def give_way(self) -> None:
        self.log.append("give way")

    def cut(self) -> None:
        self.log.append("cut")

    def give_up(self) -> None:
        self.log.append("give up")


def test_answers_that_nobody_takes_do_not_fill_the_memory() -> None:
    """However many they are, and however slowly each is taken."""
    table = ConnectionTable(10, max_unsent=100)
    seats = [Seat(unsent=40), Seat(unsent=0), Seat(unsent=40), Seat(unsent=40)]
    for each in seats:
        table.enter(each)
    for each in seats[:3]:
        table.sends(each)
    assert [each.log for each in seats] == [[]] * 4
    table.sends(seats[3])
    assert [each.log for each in seats] == [["give up"], [], [], []]  # the first began first
    seats[2].unsent = 0
    table.sends(seats[1])
    seats[2].unsent = seats[1].unsent = 40  # the next answers; that of the fourth is older
    table.sends(seats[1])
    table.sends(seats[2])
    assert [each.log for each in seats] == [["give up"], [], [], ["give up"]]


def test_many_slow_readers_lose_their_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tests.http.test_connections.ConnectionTable",
        functools.partial(ConnectionTable, max_unsent=ANSWER_BYTES),
    )
    metrics = Metrics()
    with (
        serving_large_answers(ConnectionLimits(send_s=PATIENCE_S), metrics) as port,
        ExitStack() as stack,
    ):
        readers = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S))
            for _ in range(6)
        ]
        for each in readers:
            each.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        sample = functools.partial(
            metrics.registry.get_sample_value,
            "dit_connections_cut_total",
            {"reason": "slow reader"},
        )
        wait_until(lambda: (sample() or 0) >= 1)
        sizes = [len(read_all(each)) for each in readers]
        whole = [size for size in sizes if size > ANSWER_BYTES]
        assert len(whole) == len(readers) - int(sample() or 0) >= 1


def test_connections_that_have_work_or_an_unsent_answer_do_not_give_way() -> None:
    table = ConnectionTable(4)
    working, reading, idle, newer = seats = [Seat(), Seat(unsent=1), Seat(), Seat()]
    for each in seats:
        assert table.enter(each)
        table.waits(each)
    table.works(working)
    late = [Seat(), Seat()]
    assert all(table.enter(each) for each in late)
    assert (idle.log, newer.log) == (["give way"], ["give way"])
    assert (working.log, reading.log) == ([], [])
    assert not table.crowded
    spare = [Seat() for _ in range(SPARE)]
    assert all(table.enter(each) for each in spare)
    assert table.crowded
    last = Seat()
    assert not table.enter(last)
    assert last.log == ["cut"]
    for each in spare:
        table.leave(each)
    assert not table.crowded


def test_exhausted_descriptors_are_logged_once_a_second(pipeline_folder: Path) -> None:
    with limited_service(pipeline_folder, ConnectionLimits()) as running, ExitStack() as stack:
        idle = [stack.enter_context(connect(running)) for _ in range(3)]
        wait_until(lambda: running.client.get("/livez").status_code == 200)
        loop = running.server.servers[0].get_loop()
        error = {"message": "no accept", "exception": OSError(errno.EMFILE, "Too many open files")}

        def exhausted() -> None:
            for _ in range(2048):
                loop.call_exception_handler(error)

        with capture_logs() as logs:
            loop.call_soon_threadsafe(exhausted)
            assert [read_all(each) for each in idle] == [b""] * 3  # they made room
        warnings = [each for each in logs if each["log_level"] == "warning"]
        assert [each["no_descriptors_left"] for each in warnings] == [1]


def test_a_limit_that_descriptors_do_not_allow_is_lowered_with_a_warning(
    pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.http.server.room_for_connections", lambda: 2 + SPARE)
    with (
        capture_logs() as logs,
        limited_service(pipeline_folder, ConnectionLimits()) as running,
        ExitStack() as stack,
    ):
        first, *_ = [stack.enter_context(connect(running)) for _ in range(3)]
        assert read_all(first) == b""
    assert [each["allowed"] for each in logs if "DIT_MAX_CONNECTIONS" in each["event"]] == [2]


def test_the_limit_leaves_descriptors_for_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def limited_to(soft: int) -> None:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))

    few_open = len(list(Path("/dev/fd").iterdir()))
    limited_to(10_000)
    assert 10_000 - few_open - 100 < room_for_connections() < 10_000 - few_open
    limited_to(few_open)
    assert room_for_connections() == 1
    limited_to(resource.RLIM_INFINITY)
    assert room_for_connections() > 10_000


@pytest.mark.parametrize(
    ("soft", "hard", "raised"),
    [
        (256, 1024, 1024),
        (1024, 1_048_576, ENOUGH),
        (1024, resource.RLIM_INFINITY, ENOUGH),
        (1024, 1024, None),
        (100_000, 1_048_576, None),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None),
    ],
)
def test_the_soft_limit_of_descriptors_is_raised(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, raised: int | None
) -> None:
    given: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda *args: given.append(args))
    raise_descriptor_limit()
    wanted = [] if raised is None else [(resource.RLIMIT_NOFILE, (raised, hard))]
    assert given == wanted
