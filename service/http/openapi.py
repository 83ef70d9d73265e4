"""OpenAPI: the document of the routes, with what all of them have in common."""

from __future__ import annotations

import copy
from typing import Any

from fastapi import FastAPI

from model.sampling.parameters import MAX_SEED
from service.http.problems import problem_responses

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
REQUEST_ID = {
    "name": "X-Request-Id",
    "in": "header",
    "description": "An id for this request, of 1 to 128 visible ASCII characters; else one is made.",
    "schema": TEXT,
}


def document_of(app: FastAPI) -> Document:
    """The document of an application. The first call takes a while."""
    if not hasattr(app.state, "document"):
        app.state.document = _with_common_parts(copy.deepcopy(app.openapi()))
    document: Document = app.state.document
    return document


def _with_common_parts(document: Document) -> Document:
    (general_error,) = problem_responses(400).values()
    general_error["description"] = "Any other error, such as 414, 421 or 431."
    for operation in (each for item in document["paths"].values() for each in item.values()):
        operation.setdefault("parameters", []).append(REQUEST_ID)
        operation["responses"]["default"] = copy.deepcopy(general_error)
        for status, response in operation["responses"].items():
            own = response.get("headers", {})
            response["headers"] = EVERY_ANSWER | OF_STATUS.get(status, {}) | own
    _make_bounds_exact(document)
    document["servers"] = [{"url": "."}]  # where the document is, whatever stands before its path
    return document


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
