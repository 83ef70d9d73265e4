"""OpenAPI: the document of the routes, with what all of them have in common."""

from __future__ import annotations

import copy
from typing import Any

from fastapi import FastAPI

from model.sampling.parameters import MAX_SEED
from service.http.keys.key_guard import KeyGuard
from service.http.problems import is_openai, openai_responses, problem_responses

Document = dict[str, Any]

TEXT = {"type": "string"}
SECONDS = {"type": "integer"}
EVERY_ANSWER = {
    "X-Request-Id": {"description": "The request's id, as in the log.", "schema": TEXT},
    "Server-Timing": {
        "description": "Milliseconds: `total`, and for finished images the stages before it.",
        "schema": TEXT,
    },
}
OF_STATUS = {
    "415": {
        "Accept": {"description": "The types of body that are read.", "schema": TEXT},
        "Accept-Encoding": {"description": "The codings of a body that are read.", "schema": TEXT},
    },
    "429": {"Retry-After": {"description": "Seconds until there may be room.", "schema": SECONDS}},
    "503": {"Retry-After": {"description": "Seconds until it may be ready.", "schema": SECONDS}},
}
IN_MS = {
    "Retry-After-Ms": {"description": "The same in milliseconds.", "schema": {"type": "integer"}}
}
OF_OPENAI: Document = {
    "429": IN_MS,
    "503": IN_MS,
    "504": {
        "X-Should-Retry": {"description": "`false`: OpenAI's clients do not retry.", "schema": TEXT}
    },
}
REQUEST_ID = {
    "name": "X-Request-Id",
    "in": "header",
    "description": "An id for this request, of 1 to 128 visible ASCII characters; else one is made.",
    "schema": TEXT,
}


SCHEME = "key"
KEY = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key of this service.",
}
CHALLENGE = {
    "WWW-Authenticate": {"description": "Says that a key is asked for.", "schema": TEXT},
}


def document_of(app: FastAPI, keys: KeyGuard | None = None) -> Document:
    """The document of an application. The first call takes a while.

    Args:
        keys: says which paths need a key; None: no path does.
    """
    if not hasattr(app.state, "document"):
        whole = _with_common_parts(copy.deepcopy(app.openapi()))
        app.state.document = whole if keys is None else _with_keys(whole, keys)
    document: Document = app.state.document
    return document


def _with_common_parts(document: Document) -> Document:
    for path, item in document["paths"].items():
        describe = openai_responses if is_openai(path) else problem_responses
        for operation in item.values():
            (general_error,) = describe(400).values()
            general_error["description"] = "Any other error, such as 414, 421 or 431."
            operation.setdefault("parameters", []).append(REQUEST_ID)
            operation["responses"]["default"] = general_error
            _add_headers(operation["responses"], OF_OPENAI if is_openai(path) else {})
    _make_bounds_exact(document)
    document["servers"] = [{"url": "."}]  # where the document is, whatever stands before its path
    return document


def _with_keys(document: Document, keys: KeyGuard) -> Document:
    document["components"]["securitySchemes"] = {SCHEME: KEY}
    for path, item in document["paths"].items():
        describe = openai_responses if is_openai(path) else problem_responses
        for operation in item.values():
            needed = keys.needs_key(path)
            operation["security"] = [{SCHEME: []}] if needed else []
            if needed:
                (refusal,) = describe(401).values()
                refusal["headers"] = EVERY_ANSWER | CHALLENGE
                operation["responses"]["401"] = refusal
    return document


def _add_headers(responses: Document, more: Document) -> None:
    for status, response in responses.items():
        common = EVERY_ANSWER | OF_STATUS.get(status, {}) | more.get(status, {})
        response["headers"] = common | response.get("headers", {})


def _make_bounds_exact(node: object) -> None:
    """Integers' bounds as integers: FastAPI makes doubles of them, and that of seeds one too large."""
    if isinstance(node, dict):
        if node.get("type") == "integer":
            bounds = {name: node[name] for name in ("minimum", "maximum") if name in node}
            node |= {name: min(int(bound), MAX_SEED) for name, bound in bounds.items()}
        for each in node.values():
            _make_bounds_exact(each)
    if isinstance(node, list):
        for each in node:
            _make_bounds_exact(each)
