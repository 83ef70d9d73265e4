"""The event loop: what takes long for large answers runs in other threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from service.engine.class_catalogue import ClassCatalogue
from service.http import answers, events
from service.images import encoder, encoding
from tests.support.requests import PICTURE, generate
from tests.support.services import Running

FILES: dict[str, Callable[..., object]] = {
    "image_json": answers.image_json,
    "_all_json": answers._all_json,
    "_zipped": answers._zipped,
    "_preview": events._preview,
    "encode": encoding.encode,
}


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """The names of the threads that each function ran in."""
    seen: dict[str, set[str]] = {}

    def noting(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def noted(*args: object, **options: object) -> object:
            seen.setdefault(name, set()).add(threading.current_thread().name)
            return function(*args, **options)

        return noted

    for name, function in FILES.items():
        for module in (answers, events, encoder):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, noting(name, function))
    search: Callable[..., object] = ClassCatalogue.search
    monkeypatch.setattr(ClassCatalogue, "search", noting("search", search))
    return seen


@pytest.mark.parametrize(
    ("accept", "functions"),
    [
        ("application/json", {"encode", "image_json", "_all_json"}),
        ("application/zip", {"encode", "_zipped"}),
        ("text/event-stream", {"encode", "image_json"}),
    ],
)
def test_files_are_written_into_answers_in_the_encoders_threads(
    service: Running, threads: dict[str, set[str]], accept: str, functions: set[str]
) -> None:
    body = PICTURE | {"num_images": 2, "preview_every": 1}
    assert generate(service, body, accept).status_code == 200
    assert functions <= threads.keys()
    assert all(name.startswith("encode") for seen in threads.values() for name in seen)


def test_classes_are_searched_in_another_thread(
    service: Running, threads: dict[str, set[str]]
) -> None:
    assert len(service.client.get("/classes", params={"q": "p"}).json()) == 3
    (name,) = threads["search"]
    assert name != "http"
