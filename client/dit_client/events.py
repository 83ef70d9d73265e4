"""Events: what a stream yields, and the reader that makes them of the stream's bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dit_client.errors import AnswerCut
from dit_client.results import Generation, Image, bytes_from, image_from, summary_from
from dit_client.wire.json_fields import as_object, member, optional, read_json
from dit_client.wire.problems import error_from
from dit_client.wire.sse import EventParser, ServerSentEvent


@dataclass(frozen=True, slots=True)
class Progress:
    """``step`` of the ``steps`` of all images are done; ``ahead_in_queue`` requests come first."""

    step: int
    steps: int
    ahead_in_queue: int


@dataclass(frozen=True, slots=True)
class Preview:
    """The image ``index`` as it would be if it were finished now, as a file."""

    index: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """The end: everything that `Client.generate` would have returned."""

    generation: Generation


Event = Progress | Preview | Image | Done


@dataclass(slots=True, eq=False)
class EventReader:
    """The events of one stream. Events that this version does not know are dropped."""

    headers: Mapping[str, str]
    generation: Generation | None = None
    _parser: EventParser = field(default_factory=EventParser)
    _images: list[Image] = field(default_factory=list)

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that this chunk completes.

        Raises:
            ServiceError: the service reports that the request has failed.
            InvalidAnswer: this is not a stream of this API.
        """
        for sent in self._parser.feed(chunk):
            yield from self._read(sent)

    def end(self) -> None:
        """The stream has ended.

        Raises:
            AnswerCut: "done" has not come.
        """
        if self.generation is None:
            raise AnswerCut("the stream ended before the images were finished")

    def _read(self, sent: ServerSentEvent) -> Iterator[Event]:
        if sent.name not in ("progress", "preview", "image", "done", "error"):
            return
        data = as_object(read_json(sent.data))
        if sent.name == "error":
            raise error_from(data, headers={"x-request-id": self._header("x-request-id") or ""})
        elif sent.name == "progress":
            yield _progress_from(data)
        elif sent.name == "preview":
            yield Preview(member(data, "index", int), bytes_from(member(data, "b64_json", str)))
        elif sent.name == "image":
            self._images.append(image_from(data))
            yield self._images[-1]
        else:
            yield self._done(data)

    def _done(self, data: Mapping[str, object]) -> Done:
        self.generation = summary_from(
            data,
            tuple(self._images),
            etag=self._header("etag"),
            request_id=self._header("x-request-id"),
        )
        return Done(self.generation)

    def _header(self, name: str) -> str | None:
        return self.headers.get(name)


def _progress_from(data: Mapping[str, object]) -> Progress:
    return Progress(
        step=member(data, "step", int),
        steps=member(data, "steps", int),
        ahead_in_queue=optional(data, "ahead_in_queue", int) or 0,
    )
