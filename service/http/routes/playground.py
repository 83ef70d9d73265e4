"""GET / and /playground/...: the playground, a page that draws pictures through this API."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from service.http.answers import matches
from service.http.media_ranges import best_offer

FOLDER = Path(__file__).parents[2] / "playground"
PAGE = "index.html"
TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
"""Not the machine's own table, which may call JavaScript by another name."""

HEADERS = {
    "Cache-Control": "no-cache",  # kept, and asked for anew: a new version is seen at once
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; object-src 'none';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
GZIP = re.compile(r"(x-)?gzip(;q=(1(\.0*)?|0?\.0*[1-9]\d*))?")

INDEX = """\
This is a DiT image service. In a browser, this address is a playground.
  POST generate   pictures of a class
  GET  classes    what can be drawn
  GET  models     the model, its limits and defaults
  GET  docs       the API, for people; openapi.json for programs
"""

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file as it is, and compressed for those who take it so."""

    body: bytes
    gzipped: bytes
    content_type: str
    digest: str


@router.get("/")
async def playground(request: Request) -> Response:
    """The page for browsers, which ask for HTML by name; a few lines of text for curl and others."""
    accept = ",".join(request.headers.getlist("accept"))
    if best_offer(accept, ("text/plain", "text/html")) != "text/html":
        return PlainTextResponse(INDEX, headers={"Vary": "Accept, Accept-Encoding"})
    return await _answer(request, PAGE, vary="Accept, Accept-Encoding")


@router.get("/playground/{name}")
async def playground_file(request: Request, name: str) -> Response:
    return await _answer(request, name, vary="Accept-Encoding")


async def _answer(request: Request, name: str, *, vary: str) -> Response:
    file = (await asyncio.to_thread(static_files)).get(name)
    if file is None:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    gzipped = _takes_gzip(request.headers.getlist("accept-encoding"))
    etag = f'"{file.digest}-gzip"' if gzipped else f'"{file.digest}"'
    headers = HEADERS | {"ETag": etag, "Vary": vary}
    if matches(etag, request.headers.getlist("if-none-match")):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    if gzipped:
        headers["Content-Encoding"] = "gzip"
    body = file.gzipped if gzipped else file.body
    return Response(body, media_type=file.content_type, headers=headers)


def _takes_gzip(accepted: Iterable[str]) -> bool:
    """Whether Accept-Encoding names gzip, with a quality that is not 0."""
    codings = (each.lower().replace(" ", "") for line in accepted for each in line.split(","))
    return any(GZIP.fullmatch(coding) for coding in codings)


@cache
def static_files() -> Mapping[str, StaticFile]:
    """The playground's files by name, read once."""
    files = (path for path in sorted(FOLDER.iterdir()) if path.suffix in TYPES)
    return MappingProxyType({path.name: _read(path) for path in files})


def _read(path: Path) -> StaticFile:
    body = path.read_bytes()
    digest = hashlib.sha256(body).hexdigest()[:32]
    return StaticFile(body, gzip.compress(body, mtime=0), TYPES[path.suffix], digest)
