"""Requests to a running service, as JSON or as raw bytes."""

from __future__ import annotations

import base64
import http.client
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from PIL import Image

from service.http.keys.key_ring import KeyRing
from service.tracing.spans import Tracing
from tests.support.services import (
    PATIENCE_S,
    GatedRunner,
    Running,
    load_small_checkpoint,
    running_service,
)

PICTURE = {"class_label": 1, "seed": 1, "num_sampling_steps": 2}


def generate(
    service: Running, body: Mapping[str, object], accept: str | None = None
) -> httpx.Response:
    """POST /generate; without ``accept`` no Accept header is sent."""
    request = service.client.build_request("POST", "/generate", json=body)
    del request.headers["accept"]
    if accept is not None:
        request.headers["accept"] = accept
    return service.client.send(request)


def picture(answer: httpx.Response) -> Image.Image:
    """The image of a successful answer."""
    assert answer.status_code == 200, answer.text
    image = Image.open(io.BytesIO(answer.content))
    image.load()
    return image


def metadata_of(answer: httpx.Response) -> dict[str, object]:
    """The parameters in the PNG of a successful answer."""
    content = json.loads(picture(answer).info["dit"])
    assert isinstance(content, dict)
    return content


def images_of(answer: httpx.Response) -> list[bytes]:
    """The files in a JSON answer."""
    assert answer.status_code == 200, answer.text
    return [base64.b64decode(each["b64_json"]) for each in answer.json()["images"]]


@contextmanager
def gated_service(
    folder: Path,
    *,
    max_rows: int = 32,
    max_queue_row_steps: int = 100_000,
    tracing: Tracing | None = None,
    keys: KeyRing | None = None,
) -> Iterator[tuple[Running, GatedRunner]]:
    """A service whose ticks wait for the test, until the block ends."""
    runner = GatedRunner(load_small_checkpoint(folder), max_rows=max_rows)
    with running_service(
        lambda: runner, max_queue_row_steps=max_queue_row_steps, tracing=tracing, keys=keys
    ) as running:
        runner.close()
        try:
            yield running, runner
        finally:
            runner.open()


@dataclass(frozen=True, slots=True)
class RawAnswer:
    status: int
    headers: Mapping[str, str]  # names in lower case
    content: bytes

    def json(self) -> dict[str, object]:
        content = json.loads(self.content)
        assert isinstance(content, dict)
        return content


def send_bytes(
    service: Running, body: bytes | Iterator[bytes], headers: Mapping[str, str] | None = None
) -> RawAnswer:
    """POST exactly these bytes to /generate; an iterator is sent in chunks."""
    url = httpx.URL(service.url)
    assert url.port is not None
    connection = http.client.HTTPConnection(url.host, url.port, timeout=PATIENCE_S)
    try:
        connection.request("POST", "/generate", body, dict(headers or {}))
        answer = connection.getresponse()
        named = {name.lower(): value for name, value in answer.getheaders()}
        return RawAnswer(answer.status, named, answer.read())
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event."""

    name: str
    data: dict[str, object]


def read_events(lines: Iterator[str]) -> Iterator[Event]:
    """Parse events from the lines of a streamed answer, as they arrive."""
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield Event(name, json.loads(line.removeprefix("data: ")))
