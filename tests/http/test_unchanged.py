"""If-None-Match: pictures that the client has are not drawn again."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future

import httpx
import pytest

from service.scheduling.jobs import Job, JobResult
from tests.support.requests import PICTURE
from tests.support.services import Running

FORMS = ["image/png", "image/webp", "image/jpeg", "application/json", "application/zip"]
EXACT = [form for form in FORMS if form != "application/json"]


@pytest.fixture
def drawn(exact: Running, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """The jobs that the service's engine was given."""
    jobs: list[Job] = []
    submit = exact.engine.submit

    def counted(job: Job) -> Future[JobResult]:
        jobs.append(job)
        return submit(job)

    monkeypatch.setattr(exact.engine, "submit", counted)
    return jobs


def ask(
    service: Running,
    body: Mapping[str, object] = PICTURE,
    tag: str | None = None,
    accept: str = "image/png",
) -> httpx.Response:
    headers = {"Accept": accept} | ({} if tag is None else {"If-None-Match": tag})
    return service.client.post("/generate", json=body, headers=headers)


@pytest.mark.parametrize("form", FORMS)
def test_pictures_that_the_client_has_are_not_drawn(
    exact: Running, drawn: list[Job], form: str
) -> None:
    first = ask(exact, accept=form)
    assert (first.status_code, len(drawn)) == (200, 1)
    again = ask(exact, tag=first.headers["ETag"], accept=form)
    assert (again.status_code, len(drawn)) == (304, 1)
    assert again.content == b""
    for name in ("ETag", "Vary", "X-Seed", "X-Class-Label"):
        assert again.headers[name] == first.headers[name]
    assert "total" in again.headers["Server-Timing"]


def test_several_images_are_compared_together(exact: Running, drawn: list[Job]) -> None:
    body = PICTURE | {"num_images": 3}
    tag = ask(exact, body, accept="application/zip").headers["ETag"]
    assert ask(exact, body, tag, "application/zip").status_code == 304
    assert ask(exact, body | {"num_images": 2}, tag, "application/zip").status_code == 200
    assert len(drawn) == 2


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ("{tag}", 304),
        ("W/{tag}", 304),
        ('"other", {tag}', 304),
        ('"other",W/{tag} , "another"', 304),
        ('"a, b",{tag}', 304),  # a comma within a tag
        ("*", 304),
        ('"other"', 200),
        ('"other", "another"', 200),
        ("", 200),
        ("{bare}", 200),  # without its quotes it is not an entity tag
        ("*, {bare}", 200),
        ('"{bare}', 200),
        ('W/"{bare}x"', 200),
    ],
)
def test_tags_are_compared_weakly_and_in_lists(
    exact: Running, drawn: list[Job], given: str, status: int
) -> None:
    tag = ask(exact).headers["ETag"]
    answer = ask(exact, tag=given.format(tag=tag, bare=tag.strip('"')))
    assert answer.status_code == status
    assert len(drawn) == (1 if status == 304 else 2)


def test_tags_in_several_headers_are_one_list(exact: Running) -> None:
    tag = ask(exact).headers["ETag"]
    headers = [("Accept", "image/png"), ("If-None-Match", '"a"'), ("If-None-Match", tag)]
    assert exact.client.post("/generate", json=PICTURE, headers=headers).status_code == 304


@pytest.mark.parametrize(
    "change", [{"seed": 2}, {"class_label": 2}, {"cfg_scale": 3.0}, {"output_format": "webp"}]
)
def test_other_pictures_are_drawn(exact: Running, change: Mapping[str, object]) -> None:
    tag = ask(exact).headers["ETag"]
    assert ask(exact, {**PICTURE, **change}, tag, "*/*").status_code == 200


def test_another_form_of_the_same_picture_is_sent(exact: Running) -> None:
    tag = ask(exact).headers["ETag"]
    assert ask(exact, tag=tag, accept="application/zip").status_code == 200


@pytest.mark.parametrize("tag", ["*", None])
def test_a_picture_whose_seed_is_drawn_is_new(
    exact: Running, drawn: list[Job], tag: str | None
) -> None:
    body = {"class_label": 1, "num_sampling_steps": 2}
    tag = tag or ask(exact, body).headers["ETag"]
    drawn.clear()
    assert ask(exact, body, tag).status_code == 200
    assert len(drawn) == 1


def test_outside_reproducible_mode_every_request_is_drawn(service: Running) -> None:
    tag = ask(service).headers["ETag"]
    for given in (tag, "*"):
        answer = ask(service, tag=given)
        assert (answer.status_code, answer.headers["ETag"]) == (200, tag)


def test_a_stream_is_drawn(exact: Running, drawn: list[Job]) -> None:
    tag = ask(exact, accept="text/event-stream").headers["ETag"]
    assert ask(exact, tag=tag, accept="text/event-stream").status_code == 200
    assert len(drawn) == 2


@pytest.mark.parametrize(
    ("body", "status"), [({"class_label": 99, "seed": 1}, 422), ({"class_label": "aple"}, 404)]
)
def test_a_wrong_request_is_an_error_whatever_the_client_has(
    exact: Running, body: Mapping[str, object], status: int
) -> None:
    assert ask(exact, body, "*").status_code == status


def test_a_tag_is_strong_only_where_it_promises_the_same_bytes(
    exact: Running, service: Running
) -> None:
    def is_strong(running: Running, form: str) -> bool:
        return not ask(running, accept=form).headers["ETag"].startswith("W/")

    assert all(is_strong(exact, form) for form in EXACT)
    assert not is_strong(exact, "application/json")
    assert not any(is_strong(service, form) for form in FORMS)
    for form in EXACT:
        assert ask(exact, accept=form).content == ask(exact, accept=form).content
