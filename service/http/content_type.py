"""Content type: what a request says that its body is."""

from __future__ import annotations

from starlette.datastructures import Headers

from service.errors import UnsupportedMediaType

JSON = "application/json"


def check_json(headers: Headers) -> None:
    """Refuse a body that says it is something other than JSON; one that says nothing is tried.

    Raises:
        UnsupportedMediaType: Content-Type is neither application/json nor a type in +json.
    """
    given = ", ".join(headers.getlist("content-type"))
    media_type = given.partition(";")[0].strip().lower()
    if media_type not in ("", JSON) and not media_type.endswith("+json"):
        raise UnsupportedMediaType(
            f"Content-Type is {given[:200]!r}; it must be {JSON} (curl: -H 'content-type: {JSON}')",
            {"Accept": JSON},
        )
