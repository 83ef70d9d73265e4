"""An event stream that a second replica continues."""

from __future__ import annotations

import json

from service.fleet.sending.continuation import Continuation, Event, EventSplitter, error_event
from service.http.events import sse


def events_of(*texts: str) -> list[Event]:
    return list(EventSplitter().feed("".join(texts).encode()))


def progress(step: int, ahead: int = 0) -> str:
    return sse("progress", json.dumps({"step": step, "steps": 9, "ahead_in_queue": ahead}))


def preview(step: int) -> str:
    return sse("preview", json.dumps({"index": 0, "b64_json": f"after {step}"}))


def image(index: int) -> str:
    return sse("image", json.dumps({"index": index, "b64_json": "AA=="}))


def passed(continuation: Continuation, *texts: str) -> list[bytes]:
    return [each.raw for each in events_of(*texts) if continuation.is_new(each)]


def as_bytes(*texts: str) -> list[bytes]:
    return [text.encode() for text in texts]


def test_events_are_cut_wherever_the_chunks_end() -> None:
    stream = (progress(1) + ": ping\n\n" + image(0)).encode()
    splitter = EventSplitter()
    events = [event for i in range(len(stream)) for event in splitter.feed(stream[i : i + 1])]
    assert b"".join(event.raw for event in events) == stream
    assert [event.name for event in events] == ["progress", "", "image"]


def test_the_first_try_passes_whole() -> None:
    texts = (progress(0, 3), progress(0, 2), progress(2), preview(2), image(0), image(1))
    assert passed(Continuation(), *texts) == as_bytes(*texts)


def test_a_second_try_goes_on_where_the_first_ended() -> None:
    continuation = Continuation()
    passed(continuation, progress(2), preview(2), progress(4), preview(4))
    continuation.restart()
    again = (progress(1), progress(2), preview(2), progress(4), preview(4))
    news = (progress(6), preview(6), image(0))
    assert passed(continuation, *again, *news) == as_bytes(*news)


def test_a_second_try_after_no_progress_passes_whole() -> None:
    continuation = Continuation()
    passed(continuation, progress(0, 2))
    continuation.restart()
    texts = (progress(0, 1), progress(1), preview(1))
    assert passed(continuation, *texts) == as_bytes(*texts)


def test_images_are_sent_once() -> None:
    continuation = Continuation()
    passed(continuation, progress(9), image(0))
    continuation.restart()
    assert passed(continuation, progress(9), image(0), image(1)) == as_bytes(image(1))


def test_pings_pass_while_a_second_try_catches_up() -> None:
    continuation = Continuation()
    passed(continuation, progress(5))
    continuation.restart()
    assert passed(continuation, progress(1), ": ping\n\n") == [b": ping\n\n"]


def test_openais_previews_are_told_apart_by_their_numbers() -> None:
    def partial(number: int, index: int = 0) -> str:
        data = {"index": index, "partial_image_index": number}
        return sse("image_generation.partial_image", json.dumps(data))

    def completed(index: int) -> str:
        return sse("image_generation.completed", json.dumps({"index": index}))

    continuation = Continuation()
    passed(continuation, partial(0), partial(1), partial(0, 1), completed(0))
    continuation.restart()
    again = (partial(0), partial(1), partial(0, 1), partial(1, 1), completed(0), completed(1))
    assert passed(continuation, *again) == as_bytes(partial(1, 1), completed(1))


def test_a_failed_replicas_last_event_is_recognised() -> None:
    ours = sse("error", json.dumps({"status": 503, "title": "Unavailable"}))
    openais = sse("error", json.dumps({"error": {"code": "unavailable"}}))
    others = sse("error", json.dumps({"status": 504})), sse("image", json.dumps({"status": 503}))
    assert [each.lost for each in events_of(ours, openais, *others)] == [True, True, False, False]


def test_an_error_becomes_one_event() -> None:
    (event,) = events_of(error_event(b'{"status":\n504}').decode())
    assert (event.name, event.data) == ("error", {"status": 504})
