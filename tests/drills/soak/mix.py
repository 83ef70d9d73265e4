"""Mix: one visit of each kind of client, with the answers that it may get."""

from __future__ import annotations

import http.client
import json
import random
import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

WAIT_S = 600.0
MOMENT_S = 5.0
JSON = {"Content-Type": "application/json"}
EVENTS = {"Accept": "text/event-stream"}
OPENAI = "/v1/images/generations"
RESET = struct.pack("ii", 1, 0)
READS = ("/classes?q=apple", "/models", "/v1/models", "/livez", "/readyz", "/metrics", "/", "/docs")

Body = dict[str, object]


@dataclass(slots=True)
class Visitor:
    """One client, which remembers the last PNG it got. ``large``: it asks for the most of each kind."""

    host: str
    choose: random.Random
    large: bool = False
    picture: bytes = b""

    def ask(
        self, path: str, body: Body | bytes | None = None, headers: Mapping[str, str] = JSON
    ) -> tuple[int, bytes]:
        """A whole exchange on a connection of its own: status and content of the answer."""
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        connection = http.client.HTTPConnection(self.host, timeout=WAIT_S)
        try:
            method = "GET" if content is None else "POST"
            connection.request(method, path, content, {**JSON, **headers})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def send(self, data: bytes) -> socket.socket:
        """A connection on which these bytes have been sent."""
        host, _, port = self.host.partition(":")
        connection = socket.create_connection((host, int(port)), timeout=WAIT_S)
        connection.sendall(data)
        return connection

    def leave(self, connection: socket.socket) -> None:
        """Hang up, orderly or not."""
        if self.choose.random() < 0.5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.close()


def order(visitor: Visitor) -> Body:
    """A valid request for one picture."""
    choose = visitor.choose
    body: Body = {"class_label": choose.randrange(5), "seed": choose.randrange(1 << 31)}
    body["output_format"] = choose.choice(("png", "webp", "jpeg"))
    if choose.random() < 0.3:
        return body | {"quality": choose.choice(("fast", "balanced"))}
    body["num_sampling_steps"] = 50 if visitor.large else choose.choice((1, 2, 4, 8, 15, 50))
    body["sampler"] = choose.choice(("ddim", "ddpm", "dpmpp_2m"))
    body["cfg_scale"] = choose.choice((1.0, 1.5, 4.0, 20.0))
    if choose.random() < 0.3:
        body["guidance_interval"] = choose.choice(([0.0, 0.5], [0.3, 0.9]))
    return body


def long_order(visitor: Visitor) -> Body:
    """A request that takes a second or more."""
    body = order(visitor)
    body.pop("quality", None)
    return body | {"num_sampling_steps": 250, "sampler": "ddpm"}


def whole(visitor: Visitor, body: Body, *headers: str) -> bytes:
    """A POST /generate as bytes."""
    content = json.dumps(body).encode()
    fixed = (f"Host: {visitor.host}", f"Content-Length: {len(content)}")
    lines = ["POST /generate HTTP/1.1", *fixed, *headers]
    return "\r\n".join([*lines, "", ""]).encode() + content


def one(visitor: Visitor) -> str:
    body = order(visitor)
    status, content = visitor.ask("/generate", body)
    if status == 200 and body["output_format"] == "png":
        visitor.picture = content
    return str(status)


def several(visitor: Visitor) -> str:
    form = visitor.choose.choice(("application/json", "application/zip"))
    images = 8 if visitor.large else visitor.choose.randint(2, 5)
    body = order(visitor) | {"num_images": images}
    return str(visitor.ask("/generate", body, {"Accept": form})[0])


def stream(visitor: Visitor) -> str:
    """With previews, read to the last event."""
    body = order(visitor) | {"preview_every": visitor.choose.choice((0, 1, 3))}
    status, content = visitor.ask("/generate", body, EVENTS)
    return "done" if b"event: done" in content else f"{status} without an end"


def openai(visitor: Visitor) -> str:
    body: Body = {"prompt": "1", "n": visitor.choose.randint(1, 3), "quality": "low"}
    if visitor.choose.random() < 0.5:
        return str(visitor.ask(OPENAI, body)[0])
    _, content = visitor.ask(OPENAI, body | {"stream": True, "partial_images": 2})
    return "done" if b"image_generation.completed" in content else "without an end"


def verify(visitor: Visitor) -> str:
    """The last picture, or one that was changed."""
    file = visitor.picture
    if visitor.choose.random() < 0.2:
        file = file[:-20] + bytes(20)
    return str(visitor.ask("/verify", file or b"nothing", {"Content-Type": "image/png"})[0])


def vanish(visitor: Visitor) -> str:
    """Leave while waiting for the answer."""
    connection = visitor.send(whole(visitor, long_order(visitor)))
    time.sleep(visitor.choose.uniform(0.0, 0.3))
    visitor.leave(connection)
    return "left"


def vanish_from_stream(visitor: Visitor) -> str:
    """Leave after some events."""
    body = long_order(visitor) | {"preview_every": 2}
    connection = visitor.send(whole(visitor, body, "Accept: text/event-stream"))
    connection.settimeout(MOMENT_S)
    with suppress(TimeoutError):  # all has come already
        for _ in range(visitor.choose.randint(1, 5)):
            connection.recv(4096)
    visitor.leave(connection)
    return "left"


def vanish_from_body(visitor: Visitor) -> str:
    """Leave before the body is whole."""
    visitor.leave(visitor.send(whole(visitor, order(visitor))[:-10]))
    return "left"


def wrong(visitor: Visitor) -> str:
    """A request that is refused; the one status of it."""
    faults: list[tuple[Body | bytes, Mapping[str, str]]] = [
        (order(visitor) | {"cfg_scale": -1}, {}),
        (order(visitor) | {"class_label": "no such fruit"}, {}),
        (order(visitor), {"Accept": "text/html"}),
        (b"class_label=1", {"Content-Type": "application/x-www-form-urlencoded"}),
        (b"[" * 10_000, {}),
        (b" " * 100_000, {}),
    ]
    return str(visitor.ask("/generate", *visitor.choose.choice(faults))[0])


def nonsense(visitor: Visitor) -> str:
    """Bytes that are not HTTP."""
    with visitor.send(visitor.choose.randbytes(200) + b"\r\n\r\n") as connection:
        received = b""
        try:
            while data := connection.recv(4096):
                received += data
        except ConnectionError:
            return "cut"
    return received[9:12].decode() if received else "cut"


def hurried(visitor: Visitor) -> str:
    """A deadline out of reach."""
    body = long_order(visitor) | {"num_sampling_steps": 1000, "timeout_s": 0.02}
    return str(visitor.ask("/generate", body)[0])


def read(visitor: Visitor) -> str:
    return str(visitor.ask(visitor.choose.choice(READS))[0])


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of visit: how often it comes, and what may come of it."""

    visit: Callable[[Visitor], str]
    weight: int
    expected: frozenset[str]
    name: str = field(default="")


def _kind(visit: Callable[[Visitor], str], weight: int, *expected: str) -> Kind:
    return Kind(visit, weight, frozenset(expected), visit.__name__.replace("_", " "))


KINDS = (
    _kind(one, 30, "200"),
    _kind(several, 8, "200"),
    _kind(stream, 10, "done"),
    _kind(openai, 8, "200", "done"),
    _kind(verify, 6, "200", "422"),
    _kind(vanish, 8, "left"),
    _kind(vanish_from_stream, 6, "left"),
    _kind(vanish_from_body, 3, "left"),
    _kind(wrong, 8, "404", "406", "413", "415", "422"),
    _kind(nonsense, 2, "400", "408", "cut"),
    _kind(hurried, 4, "504"),
    _kind(read, 7, "200"),
)
