"""The parts of the wire's format, and when a request is sent again."""

from __future__ import annotations

import email.utils
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dit_client import DeadlineExceeded, DitError, NoAnswer, QueueFull, RetryPolicy
from dit_client.calls import Answer
from dit_client.errors import DeadlineImpossible, DeadlinePassed, InvalidAnswer
from dit_client.retries import Attempt, Deadline, Final, Outcome, Pause, attempts
from dit_client.wire import sse
from dit_client.wire.json_fields import member
from dit_client.wire.problems import error_of, retry_after
from dit_client.wire.sse import EventParser, ServerSentEvent

LINES = [
    "event: a",
    "data: x",
    "data:y",
    "data",
    ": comment",
    "id: 1",
    "retry: 5",
    "",
    "",
    "data: é",
]


def parsed(*chunks: bytes) -> list[ServerSentEvent]:
    parser = EventParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


def expected(lines: list[str]) -> list[ServerSentEvent]:
    """A slow reading of the same lines, by the standard's words."""
    events: list[ServerSentEvent] = []
    name, data = "", list[str]()
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line == "":
            if data:
                events.append(ServerSentEvent(name or "message", "\n".join(data)))
            name, data = "", []
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)
    return events


@given(
    lines=st.lists(st.sampled_from(LINES), max_size=12),
    ends=st.lists(st.sampled_from(["\n", "\r\n", "\r"]), min_size=12, max_size=12),
    cuts=st.sets(st.integers(0, 120), max_size=8),
    bom=st.booleans(),
)
def test_chunks_may_be_split_anywhere(
    lines: list[str], ends: list[str], cuts: set[int], bom: bool
) -> None:
    # CR and LF of two line ends in a row would be one: then the reading differs, rightly.
    for i in range(len(lines) - 1):
        if ends[i] == "\r" and lines[i + 1] == "" and ends[i + 1].startswith("\n"):
            ends[i] = "\n"
    text = "".join(line + end for line, end in zip(lines, ends))
    data = (b"\xef\xbb\xbf" if bom else b"") + text.encode()
    places = [0, *sorted(cuts), len(data)]
    chunks = [data[a:b] for a, b in itertools.pairwise(places)]
    assert parsed(*chunks) == parsed(data) == expected(lines)


def test_a_name_is_its_own_events_alone() -> None:
    events = parsed(b"event: a\ndata: x\n\ndata: y\n\n")
    assert events == [ServerSentEvent("a", "x"), ServerSentEvent("message", "y")]


def test_one_space_after_the_colon_is_dropped_and_no_other() -> None:
    assert parsed(b"data:  x \n\n") == [ServerSentEvent("message", " x ")]


def test_an_event_without_its_blank_line_is_dropped() -> None:
    assert parsed(b"data: x\n") == []
    assert parsed(b"data: x\n\n") == [ServerSentEvent("message", "x")]


def test_a_stream_without_line_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 1000)
    with pytest.raises(InvalidAnswer, match="longer than 1000"):
        parsed(*[b"x" * 100] * 20)
    parsed(*[b": ping\n\n"] * 1000)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("0", 0), ("7", 7), (" 7 ", 7), ("-1", None), ("1e3", None), ("soon", None), ("", None)],
)
def test_retry_after_in_seconds(header: str, seconds: float | None) -> None:
    assert retry_after(header) == seconds


def test_retry_after_as_a_date() -> None:
    date = email.utils.formatdate(1_000_000, usegmt=True)
    assert retry_after(date, now=999_990) == 10
    assert retry_after(date, now=1_000_010) == 0
    assert retry_after(None) is None


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("urn:dit-service:deadline-impossible", DeadlineImpossible),
        ("about:blank", DeadlinePassed),
    ],
)
def test_a_deadline_is_told_apart_from_one_that_nobody_could_keep(
    kind: str, error: type[DitError]
) -> None:
    body = json.dumps({"type": kind, "status": 504, "title": "late"}).encode()
    assert type(error_of(504, {"content-type": "application/problem+json"}, body)) is error


def test_a_proxys_page_is_short_words() -> None:
    error = error_of(502, {"content-type": "text/html"}, b"<html><p>Bad\n gateway</p>" * 1000)
    assert str(error).startswith("502 Bad Gateway: Bad gateway")
    assert len(str(error)) < 600


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"errors": 3}', b'{"errors": [{}]}'])
def test_a_broken_problem_is_still_an_error(body: bytes) -> None:
    error = error_of(422, {"content-type": "application/problem+json"}, body)
    assert error.status == 422


def test_members_are_checked() -> None:
    assert member({"x": 1}, "x", float) == 1.0
    for value in ("1", None, True, [1]):
        with pytest.raises(InvalidAnswer, match="'x' is not an integer"):
            member({"x": value}, "x", int)


def driven(
    *outcomes: Outcome, policy: RetryPolicy, timeout_s: float = 100.0
) -> tuple[Final, list[float]]:
    """The final answer, and the waits before it. The last outcome repeats."""
    tries = attempts(Deadline.after(timeout_s), policy)
    left, waits, outcome = list(outcomes), [], None
    try:
        while True:
            step = tries.send(outcome)
            if isinstance(step, Pause):
                waits.append(step.seconds)
                outcome = None
            else:
                assert isinstance(step, Attempt)
                outcome = left.pop(0) if len(left) > 1 else left[0]
    except StopIteration as end:
        final: Final = end.value
        return final, waits


FULL = Answer(429, {"retry-after": "2"}, b"")
GOOD = Answer(200, {}, b"")


def test_waits_grow_without_retry_after_and_keep_to_it_with_one() -> None:
    gone = NoAnswer("gone")
    _, waits = driven(gone, gone, gone, GOOD, policy=RetryPolicy(first_s=1, longest_s=3))
    assert [1 <= waits[0] <= 1.25, 2 <= waits[1] <= 2.5, 3 <= waits[2] <= 3.75] == [True] * 3
    _, waits = driven(FULL, FULL, GOOD, policy=RetryPolicy())
    assert all(2 <= wait <= 2.5 for wait in waits)
    assert len(waits) == 2


def test_many_clients_do_not_return_at_once() -> None:
    waits = {driven(FULL, GOOD, policy=RetryPolicy())[1][0] for _ in range(50)}
    assert max(waits) - min(waits) > 0.2


def test_the_number_of_tries_is_bounded() -> None:
    final, waits = driven(FULL, policy=RetryPolicy(attempts=4))
    assert final == FULL
    assert len(waits) == 3
    assert driven(FULL, policy=RetryPolicy(attempts=1))[1] == []
    with pytest.raises(NoAnswer):
        driven(NoAnswer("gone"), policy=RetryPolicy(connections=2))


def test_the_deadline_bounds_the_waits() -> None:
    final, waits = driven(FULL, policy=RetryPolicy(), timeout_s=1.0)
    assert final == FULL
    assert waits == []
    with pytest.raises(DeadlineExceeded):
        driven(GOOD, policy=RetryPolicy(), timeout_s=-1.0)


def test_every_error_is_in_the_tree() -> None:
    assert issubclass(QueueFull, DitError)
    with pytest.raises(DitError):
        raise error_of(500, {}, b"")
