"""Negotiation: the form of the answer, chosen by Accept and output_format."""

from __future__ import annotations

import pytest

from service.errors import NotAcceptable
from service.http.negotiation import AnswerForm, negotiate
from service.images.encoding import OutputFormat
from tests.support.requests import PICTURE, generate
from tests.support.services import Running

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
JSON = "application/json"
ZIP = "application/zip"


@pytest.mark.parametrize(
    ("accept", "kind", "output_format"),
    [
        (None, "image", "png"),
        ("", "image", "png"),
        ("*/*", "image", "png"),
        ("image/*", "image", "png"),
        ("image/png", "image", "png"),
        ("image/webp", "image", "webp"),
        ("image/jpeg", "image", "jpeg"),
        ("IMAGE/WebP", "image", "webp"),
        (BROWSER, "image", "webp"),
        (JSON, JSON, "png"),
        ("application/json; charset=utf-8", JSON, "png"),
        ("application/json, text/plain, */*", JSON, "png"),
        ("application/*", JSON, "png"),
        ("application/zip", "application/zip", "png"),
        ("text/event-stream", "text/event-stream", "png"),
        ("image/webp;q=0.5, image/jpeg;q=0.9", "image", "jpeg"),
        ("text/html, image/png;q=0.1", "image", "png"),
        ("*/*, application/zip", "application/zip", "png"),
        ("*/*, application/*", JSON, "png"),
        ("application/*, application/zip", "application/zip", "png"),
        ("image/jpeg;q=1, image/png;q=5", "image", "jpeg"),
        ("image/png;q=0, image/webp;q=0.001", "image", "webp"),
        ("image/png;q=nonsense, application/json;q=0.2", JSON, "png"),
        (" , ,image/jpeg", "image", "jpeg"),
        (",", "image", "png"),
        (" ;,\t;", "image", "png"),
        ("image/png;q=0, */*", "image", "webp"),
        ("*/*, image/png;q=0", "image", "webp"),
        ("image/png;q=0.0, image/*", "image", "webp"),
        ("image/*;q=0, */*", JSON, "png"),
        ("image/*;q=0, application/json;q=0, */*", "application/zip", "png"),
        ("image/*;q=0, application/*;q=0, */*;q=0.1", "text/event-stream", "png"),
        ("text/*", "text/event-stream", "png"),
        ("*/*;q=0, image/jpeg", "image", "jpeg"),
        ("image/*;q=0.2, image/webp;q=0.1, application/json;q=0.1", "image", "png"),
        ("*/*;q=0.9, image/png;q=0.1, image/jpeg;q=0.2", "image", "webp"),
        ("application/*;q=0.5, application/zip;q=0.7", "application/zip", "png"),
        ("image/png; Q=0, IMAGE/JPEG", "image", "jpeg"),
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", "image", "jpeg"),
        ("image/png;q=nan, image/jpeg;q=inf, image/webp;q=-1, application/zip", ZIP, "png"),
    ],
)
def test_one_image(accept: str | None, kind: str, output_format: OutputFormat) -> None:
    assert negotiate(accept, None, 1) == AnswerForm(kind, output_format)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, JSON),
        ("*/*", JSON),
        (BROWSER, JSON),
        (JSON, JSON),
        ("application/zip", "application/zip"),
        ("image/png, application/json;q=0.1", JSON),
        ("text/event-stream", "text/event-stream"),
    ],
)
def test_several_images(accept: str | None, kind: str) -> None:
    assert negotiate(accept, "webp", 2) == AnswerForm(kind, "webp")


@pytest.mark.parametrize(
    ("accept", "output_format", "num_images"),
    [
        ("text/html", None, 1),
        ("image/avif", None, 1),
        ("image/png;q=0", None, 1),
        ("*/*;q=0", None, 1),
        ("image/png;q=0, image/*", "png", 1),
        ("application/json;q=0, image/*", None, 2),
        ("image/*", None, 2),
        ("image/png", None, 2),
        ("image/png", "webp", 1),
        ("png", None, 1),
    ],
)
def test_an_accept_header_that_cannot_be_met_is_refused(
    accept: str, output_format: OutputFormat | None, num_images: int
) -> None:
    with pytest.raises(NotAcceptable, match="application/json"):
        negotiate(accept, output_format, num_images)


def test_a_long_accept_header_is_cut_short_in_the_message() -> None:
    with pytest.raises(NotAcceptable, match=r"'x{200}'; one image can be sent as image/png"):
        negotiate("x" * 5000, None, 1)


def test_output_format_narrows_the_accepted_pictures() -> None:
    assert negotiate("image/*", "jpeg", 1) == AnswerForm("image", "jpeg")
    assert negotiate("image/png, image/jpeg;q=0.1", "jpeg", 1) == AnswerForm("image", "jpeg")


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "image/png"),
        ("image/webp", "image/webp"),
        (JSON, JSON),
        ("application/zip", "application/zip"),
        ("text/event-stream", "text/event-stream; charset=utf-8"),
    ],
)
def test_the_service_answers_in_the_negotiated_form(
    service: Running, accept: str | None, content_type: str
) -> None:
    answer = generate(service, PICTURE, accept)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == content_type


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/openmetrics-text", "application/openmetrics-text"),
        ("application/openmetrics-text;q=0.5, text/plain;q=0.3, */*;q=0.1", "application/openm"),
        ("application/openmetrics-text;q=0, */*", "text/plain"),
        ("application/openmetrics-text;q=0.1, text/plain", "text/plain"),
        ("text/html", "text/plain"),
        ("*/*", "text/plain"),
    ],
)
def test_metrics_come_in_the_form_that_accept_prefers(
    service: Running, accept: str, content_type: str
) -> None:
    answer = service.client.get("/metrics", headers={"Accept": accept})
    assert answer.headers["Content-Type"].startswith(content_type)


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text;version=abc",
        "application/openmetrics-text;version=",
        "application/openmetrics-text;version",
        "application/openmetrics-text;version=2.0.0",
        "application/openmetrics-text;version=0.0.1",
        "application/openmetrics-text;version=1.0.0.0;escaping=nonsense",
        "application/openmetrics-text;version=x, application/openmetrics-text;version=1.0.0",
        "text/plain;version=abc",
        "text/plain;version=9;escaping=nonsense",
    ],
)
def test_metrics_are_of_a_true_version_whatever_accept_names(service: Running, accept: str) -> None:
    answer = service.client.get("/metrics", headers={"Accept": accept})
    assert answer.status_code == 200
    media_type = accept.partition(";")[0]
    version = {"text/plain": "0.0.4", "application/openmetrics-text": "1.0.0"}[media_type]
    assert answer.headers["Content-Type"] == f"{media_type}; version={version}; charset=utf-8"


def test_answers_that_depend_on_accept_say_so(service: Running) -> None:
    answers = [generate(service, PICTURE, accept) for accept in (None, JSON, "text/event-stream")]
    answers += [generate(service, PICTURE, "text/html"), service.client.get("/metrics")]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 406, 200]
    assert [answer.headers.get("Vary") for answer in answers] == ["Accept"] * 5


def test_several_accept_headers_count_as_one(service: Running) -> None:
    lines = [("Accept", "text/html"), ("Accept", "image/webp;q=0.9"), ("Accept", "image/png;q=0.5")]
    answer = service.client.post("/generate", json=PICTURE, headers=lines)
    assert answer.headers["Content-Type"] == "image/webp"


def test_406_lists_the_available_forms(service: Running) -> None:
    answer = generate(service, PICTURE, "text/html")
    assert answer.status_code == 406
    problem = answer.json()
    assert problem["title"] == "Not acceptable"
    for form in ("text/html", "image/webp", JSON, "application/zip", "text/event-stream"):
        assert form in problem["detail"]
    assert (
        "image/" not in generate(service, PICTURE | {"num_images": 2}, "text/css").json()["detail"]
    )
