"""GET /docs and /openapi.json: what the service can do, for people and for programs."""

from __future__ import annotations

import asyncio
import json

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from service.http.content_type import JSON
from service.http.context import context_of
from service.http.docs_page import content_policy, docs_page
from service.http.openapi import document_of

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs(request: Request) -> Response:
    keys = context_of(request).keys
    page = await asyncio.to_thread(lambda: docs_page(document_of(request.app, keys)))
    return HTMLResponse(page, headers={"Content-Security-Policy": content_policy(page)})


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    keys = context_of(request).keys
    document = await asyncio.to_thread(lambda: json.dumps(document_of(request.app, keys)))
    return Response(document, media_type=JSON)
