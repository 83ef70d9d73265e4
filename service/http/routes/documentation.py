"""GET /docs and /openapi.json: what the service can do, for people and for programs."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from service.http.content_type import JSON
from service.http.context import context_of
from service.http.docs_page import content_policy, docs_page
from service.http.keys.key_guard import KeyGuard
from service.http.openapi import document_of

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs(request: Request) -> Response:
    page = (await _texts(request)).page
    return HTMLResponse(page, headers={"Content-Security-Policy": content_policy(page)})


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    return Response((await _texts(request)).document, media_type=JSON)


@dataclass(frozen=True, slots=True)
class _Texts:
    """Written once: both are there for everybody, as often as they ask."""

    page: str
    document: str


async def _texts(request: Request) -> _Texts:
    state = request.app.state
    if not hasattr(state, "documentation"):
        keys = context_of(request).keys
        state.documentation = await asyncio.to_thread(_write, request.app, keys)
    texts: _Texts = state.documentation
    return texts


def _write(app: FastAPI, keys: KeyGuard | None) -> _Texts:
    document = document_of(app, keys)
    return _Texts(docs_page(document), json.dumps(document))
