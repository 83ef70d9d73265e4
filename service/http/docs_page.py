"""Docs page: the OpenAPI document as one HTML page that needs nothing from another host."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import cast

TEMPLATE = Path(__file__).parents[1] / "web" / "docs.html"
METHODS = ("get", "post")
JSON = "application/json"
INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)
KEY_FIELD = (
    '<p><label>API key <input id="key" type="password" autocomplete="off" spellcheck="false"></label>'
    " is sent with every form, and kept nowhere.</p>"
)

Node = Mapping[str, "Node"]
"""An object of the document, typed as far as this page needs."""


def docs_page(document: Mapping[str, object]) -> str:
    """Every operation with a form that sends it, and every schema."""
    root = cast(Node, document)
    title = f"{root['info']['title']} {root['info']['version']}"
    parts = [
        _paragraph(root["info"]),
        '<p>For programs: <a href="./openapi.json">the OpenAPI document</a>.</p>',
        KEY_FIELD if "securitySchemes" in root["components"] else "",
        *_operations(root),
        "<h2>Schemas</h2>",
        *(_schema(name, schema) for name, schema in root["components"]["schemas"].items()),
        *_errors(root),
    ]
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(title=escape(title), content="\n".join(parts))


def content_policy(page: str) -> str:
    """The Content-Security-Policy of the page: its own script and style, by their hashes, alone."""
    hashes = {name: _hash(text) for name, text in INLINE.findall(page)}
    return (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']};"
        " connect-src 'self'; img-src blob: data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _operations(root: Node) -> Iterator[str]:
    for path, item in root["paths"].items():
        for method in (each for each in METHODS if each in item):
            yield _operation(method.upper(), path, item[method])


def _operation(method: str, path: str, operation: Node) -> str:
    responses = (
        (status, _text(each), ", ".join([*each.get("content", {}), *each.get("headers", {})]))
        for status, each in operation["responses"].items()
    )
    return "\n".join(
        [
            f"<h2><code>{method} {escape(path)}</code></h2>",
            f"<p>{escape(str(operation['summary']))}.</p>",
            _paragraph(operation),
            *_inputs(operation),
            _form(method, path, operation),
            _table(("status", "", "types and headers"), responses),
        ]
    )


def _inputs(operation: Node) -> Iterator[str]:
    """What can be sent: parameters, and the fields of a JSON body."""
    parameters = cast(Iterable[Node], operation.get("parameters", ()))
    rows = [
        (each["name"], f"{each['in']}, {_type(each['schema'])}", _text(each)) for each in parameters
    ]
    if rows:
        yield _table(("parameter", "", ""), rows)
    body = operation.get("requestBody", {})
    yield _paragraph(body)
    for content_type, content in body.get("content", {}).items():
        yield f"<p>Body: <code>{escape(content_type)}</code></p>"
        yield _fields(content["schema"])


def _form(method: str, path: str, operation: Node) -> str:
    """Sends the operation; the page's script reads its data attributes."""
    content = operation.get("requestBody", {}).get("content", {})
    first = next(iter(content), "")
    inputs = "".join([*_parameter_inputs(operation), *_body_inputs(content)])
    return (
        f'<form data-method="{method}" data-path="{escape(path)}" data-type="{escape(first)}">'
        f"{inputs} <button>Send</button><output></output></form>"
    )


def _parameter_inputs(operation: Node) -> Iterator[str]:
    for each in cast(Iterable[Node], operation.get("parameters", ())):
        if str(each["in"]) in ("query", "path"):
            name = escape(str(each["name"]))
            kind = f"data-{each['in']}"
            yield f'<label><code>{name}</code> <input {kind} name="{name}"></label>'


def _body_inputs(content: Node) -> Iterator[str]:
    """A text with the first example, and the others; or a file."""
    if JSON in content:
        examples = content[JSON]["examples"].values()
        first, *others = (escape(json.dumps(each["value"], indent=2)) for each in examples)
        yield f'<textarea name="body">{first}</textarea>'
        yield from (f"<pre>{other}</pre>" for other in others)
    elif content:
        yield f'<input type="file" name="body" accept="{escape(",".join(content))}">'


def _schema(name: str, schema: Node) -> str:
    return f'<h3 id="{escape(name)}">{escape(name)}</h3>\n{_paragraph(schema)}\n{_fields(schema)}'


def _errors(root: Node) -> Iterator[str]:
    """The schemas of errors, which are in every operation, and of the objects in them."""
    found: dict[str, Node] = {}
    for operation in (each for item in root["paths"].values() for each in item.values()):
        for content in operation["responses"]["default"]["content"].values():
            found |= {str(each["title"]): each for each in _objects(content["schema"])}
    return (_schema(title, schema) for title, schema in found.items())


def _objects(schema: Node) -> Iterator[Node]:
    if "properties" in schema:
        yield schema
        for each in schema["properties"].values():
            yield from _objects(each)
            yield from _objects(each.get("items", {}))


def _fields(schema: Node) -> str:
    properties = schema.get("properties", {})
    return _table(
        ("field", "", ""),
        ((name, _type(each), _text(each)) for name, each in properties.items()),
    )


def _type(schema: Node) -> str:
    """A schema in a few words: its type and its bounds."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    choices = cast(Iterable[Node], schema.get("anyOf", ()))
    if choices:
        return " or ".join(_type(each) for each in choices)
    if "enum" in schema:
        return " or ".join(map(str, cast(Iterable[object], schema["enum"])))
    words = [str(schema.get("type", "any"))]
    if "items" in schema:
        words.append(f"of {_type(schema['items'])}")
    words += [f"{sign} {schema[name]}" for name, sign in _BOUNDS.items() if name in schema]
    return " ".join(words)


_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "maxLength": "of length ≤"}


def _text(node: Node) -> str:
    return str(node.get("description", ""))


def _paragraph(node: Node) -> str:
    return f"<p>{escape(_text(node))}</p>" if _text(node) else ""


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Empty if there are no rows."""
    lines = [_row("td", row) for row in rows]
    return "\n".join(["<table>", _row("th", head), *lines, "</table>"]) if lines else ""


def _row(cell: str, values: Iterable[object]) -> str:
    return f"<tr>{''.join(f'<{cell}>{escape(str(value))}</{cell}>' for value in values)}</tr>"
