"""Stages: how far a request has come when its client leaves, and the ways to leave."""

from __future__ import annotations

import json
import random
import socket
import struct
import time
from collections.abc import Callable, Mapping

from tests.drills.services.served import Served
from tests.support.raw import post
from tests.support.services import wait_until

LONG: dict[str, object] = {"class_label": 1, "seed": 1, "num_sampling_steps": 1000}
LARGE = LONG | {"num_images": 8}
"""It takes all rows of a tick of the steady device."""
SHORT = LONG | {"num_sampling_steps": 2}
FEW = 3
EVENTS = "Accept: text/event-stream"
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


def in_the_head(service: Served) -> socket.socket:
    return service.connect(post(LONG)[:40])


def in_the_body(service: Served) -> socket.socket:
    return service.connect(post(LONG)[:-5])


def queued(service: Served) -> socket.socket:
    """Needs somebody whose request takes all rows."""
    before = service.metric("dit_requests_waiting")
    connection = service.connect(post(LARGE))
    wait_until(lambda: service.metric("dit_requests_waiting") > before)
    return connection


def denoising(service: Served) -> socket.socket:
    before = service.metric("dit_queue_wait_seconds_count")
    connection = service.connect(post(LONG))
    wait_until(lambda: service.metric("dit_queue_wait_seconds_count") > before)
    return connection


def in_the_events(service: Served) -> socket.socket:
    connection = service.connect(post(LONG, EVENTS))
    read_progress(connection, 1)
    return connection


def in_the_decoder(service: Served) -> socket.socket:
    """Half a tick after its last step, on a steady device with ticks of 0.1 s."""
    connection = service.connect(post(LONG | {"num_sampling_steps": FEW}, EVENTS))
    read_progress(connection, FEW - 1)
    time.sleep(0.15)
    return connection


def anywhere(service: Served) -> socket.socket:
    """At some moment of a request of some length, with or without events."""
    chance = random.Random()
    body = LONG | {"num_sampling_steps": chance.choice((1, 10, 100, 1000))}
    connection = service.connect(post(body, *chance.choice(((), (EVENTS,)))))
    time.sleep(chance.random() ** 2 * 3)
    return connection


def before_the_first_byte(service: Served) -> socket.socket:
    """At some moment of a short request, up to and after its answer."""
    connection = service.connect(post(SHORT))
    time.sleep(random.random() * 0.4)
    return connection


def between_requests(service: Served) -> socket.socket:
    connection = service.connect(LIVEZ)
    received = b""
    while b'"alive"}' not in received:
        received += connection.recv(4096)
    return connection


def read_progress(connection: socket.socket, step: int) -> None:
    """Read an event stream until so many steps are done."""
    received = b""
    while True:
        data = connection.recv(4096)
        assert data, received
        received += data
        for line in received.split(b"\n"):
            whole = line.startswith(b'data: {"step"') and line.endswith(b"}")
            if whole and json.loads(line[6:])["step"] >= step:
                return


STAGES: Mapping[str, Callable[[Served], socket.socket]] = {
    "while it sends the head": in_the_head,
    "while it sends the body": in_the_body,
    "while it is queued": queued,
    "in the middle of denoising": denoising,
    "in an event stream": in_the_events,
    "in the decoder": in_the_decoder,
    "about when the answer begins": before_the_first_byte,
    "between two requests": between_requests,
}
RUNNING = {"in the middle of denoising", "in an event stream"}
"""The stages at which the request has rows."""
CANCELLED = RUNNING | {"while it is queued"}
"""The stages at which the service has to notice that the client is gone."""


def close(connection: socket.socket) -> None:
    connection.close()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def half_close(connection: socket.socket) -> None:
    """First the sending end alone."""
    connection.shutdown(socket.SHUT_WR)
    time.sleep(0.05)
    connection.close()


WAYS: Mapping[str, Callable[[socket.socket], None]] = {
    "closes": close,
    "resets": reset,
    "closes in halves": half_close,
}
