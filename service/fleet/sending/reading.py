"""Reading: what the front has to know of a request before it passes it on unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs

from service.errors import ServiceError
from service.fleet.sending.work import Body, number_in
from service.images.claim import read_claim
from service.images.json_object import read_json_object

PICTURES = frozenset({"/generate", "/v1/images/generations"})
VERIFY = "/verify"
ONE_MODEL = "/v1/models/"
BY_QUERY = "/classes"


@dataclass(frozen=True, slots=True)
class Wish:
    """The model that a request names, if it names one, and its body's members if it is for pictures.

    ``binding``: whether a name that is not served is an error. A file's model is not.
    """

    model: str | None = None
    body: Body | None = None
    binding: bool = True

    @property
    def timeout_s(self) -> float | None:
        return number_in(self.body or {}, "timeout_s")

    @property
    def needs_seed(self) -> bool:
        return self.body is not None and self.body.get("seed") is None


def read_wish(method: str, path: str, query: bytes, body: bytes) -> Wish:
    """Read what the front needs. Where a request is wrong, its replica says how."""
    if method == "POST" and path in PICTURES:
        return _read_pictures(body)
    if method == "POST" and path == VERIFY:
        return _read_file(body)
    if path.startswith(ONE_MODEL):
        return Wish(path.removeprefix(ONE_MODEL))
    if path == BY_QUERY:
        named = parse_qs(query.decode("latin-1")).get("model")
        return Wish(named[-1] if named else None)
    return Wish()


def _read_pictures(body: bytes) -> Wish:
    try:
        members = read_json_object(body)
    except ServiceError:
        return Wish()
    model = members.get("model")
    return Wish(model if isinstance(model, str) else None, members)


def _read_file(body: bytes) -> Wish:
    try:
        return Wish(read_claim(body).parameters.model, binding=False)
    except ServiceError:
        return Wish()
