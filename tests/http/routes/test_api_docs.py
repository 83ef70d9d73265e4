"""/docs and /openapi.json: they match what the service does, and their examples work."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import cast

import httpx
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from service.http.middleware.security_headers import SECURITY_HEADERS
from service.images.request import GenerateRequest
from tests.support.services import Running

Node = dict[str, "Node"]
"""A JSON object, typed as far as these tests need."""

METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def document(service: Running) -> Node:
    return cast(Node, service.client.get("/openapi.json").json())


def operations(document: Node) -> Iterator[tuple[str, str, Node]]:
    for path, item in document["paths"].items():
        for method in METHODS & item.keys():
            yield path, method, item[method]


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for each in node.values():
            yield from references(each)
    if isinstance(node, list):
        for each in node:
            yield from references(each)


def schemas(node: object) -> Iterator[object]:
    if isinstance(node, dict):
        if "schema" in node:
            yield node["schema"]
        for each in node.values():
            yield from schemas(each)


def picture_file(service: Running) -> bytes:
    return service.client.post("/generate", json={"class_label": 0}).content


class Page(HTMLParser):
    """The text of a page, and the places that it loads from or leads to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.places: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.places += [value or "" for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_docs_page_loads_nothing_from_another_host(service: Running) -> None:
    answer = service.client.get("/docs")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    places = Page(answer.text).places
    assert "./openapi.json" in places
    assert all(place.startswith(("./", "#", "data:")) for place in places)
    assert not re.search(r"https?://|url\(|@import|import\(", answer.text)
    for place in places:
        if place.startswith("./"):
            assert service.client.get(place).status_code == 200


def test_the_docs_page_has_every_operation_and_field(service: Running, document: Node) -> None:
    words = set(Page(service.client.get("/docs").text).words)
    for path, method, operation in operations(document):
        assert {f"{method.upper()} {path}", *operation["responses"]} <= words
    fields = [name for schema in object_schemas(document) for name in schema["properties"]]
    assert set(fields) <= words


def test_no_other_page_of_documentation_is_served(service: Running) -> None:
    assert service.client.get("/redoc").status_code == 404


def test_the_document_has_what_openapi_requires(document: Node) -> None:
    assert str(document["openapi"]).startswith("3.1")
    assert {"title", "version"} <= document["info"].keys()
    ids = [str(operation["operationId"]) for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)
    for _, _, operation in operations(document):
        assert operation["summary"]
        assert all("description" in each for each in operation["responses"].values())


def test_every_reference_resolves(document: Node) -> None:
    found = set(references(document))
    assert found
    for reference in found:
        node = document
        for name in reference.removeprefix("#/").split("/"):
            node = node[name]


def test_every_schema_is_valid(document: Node) -> None:
    found = [*schemas(document["paths"]), *document["components"]["schemas"].values()]
    assert len(found) > 10
    for schema in found:
        Draft202012Validator.check_schema(cast(Node, schema))


def test_every_route_is_described(document: Node) -> None:
    described = {(method, path) for path, method, _ in operations(document)}
    assert described >= {
        ("post", "/generate"),
        ("post", "/verify"),
        ("get", "/classes"),
        ("get", "/models"),
        ("get", "/v1/models"),
        ("get", "/v1/models/{model}"),
        ("post", "/v1/images/generations"),
        ("get", "/livez"),
        ("get", "/readyz"),
        ("get", "/metrics"),
    }


def test_errors_are_described_as_problems(document: Node) -> None:
    responses = document["paths"]["/generate"]["post"]["responses"]
    assert set(responses) == {
        *(
            "200",
            "304",
            "404",
            "406",
            "408",
            "413",
            "415",
            "422",
            "429",
            "500",
            "503",
            "504",
            "default",
        )
    }
    for path, _, operation in operations(document):
        for status, response in operation["responses"].items():
            if status >= "400":
                kind = "json" if path.startswith("/v1/") else "problem+json"
                assert list(response["content"]) == [f"application/{kind}"]


def object_schemas(node: object) -> Iterator[Node]:
    """Every schema of an object in the document, wherever it is."""
    if isinstance(node, dict):
        if isinstance(node.get("properties"), dict):
            yield node
        for each in node.values():
            yield from object_schemas(each)
    if isinstance(node, list):
        for each in node:
            yield from object_schemas(each)


def test_every_field_and_schema_is_described(document: Node) -> None:
    found = list(object_schemas(document))
    assert len(found) > 10
    for schema in found:
        assert schema["description"], schema
        for name, each in schema["properties"].items():
            assert each.get("description") or "$ref" in each, name


def test_every_header_and_parameter_is_described(service: Running, document: Node) -> None:
    for _, _, operation in operations(document):
        for each in (*operation["parameters"], *operation["responses"].values()):
            assert each["description"]  # type: ignore[index]
        for response in operation["responses"].values():
            assert {"X-Request-Id", "Server-Timing"} <= response["headers"].keys()
            assert all(header["description"] for header in response["headers"].values())
    described = document["paths"]["/generate"]["post"]["responses"]["200"]["headers"]
    sent = service.client.post("/generate", json={"class_label": 0}).headers
    everywhere = FRAMING | {name.lower() for name in SECURITY_HEADERS}
    assert {name.lower() for name in described} == sent.keys() - everywhere


FRAMING = {"content-length", "content-type", "date"}


def test_every_field_is_described(document: Node) -> None:
    content = document["paths"]["/generate"]["post"]["requestBody"]["content"]
    properties = content["application/json"]["schema"]["properties"]
    assert set(properties) == set(GenerateRequest.model_fields)
    assert all(each["description"] for each in properties.values())


def test_bounds_of_integers_are_exact(document: Node) -> None:
    content = document["paths"]["/generate"]["post"]["requestBody"]["content"]
    properties = content["application/json"]["schema"]["properties"]
    seed, _ = cast(list[dict[str, object]], properties["seed"]["anyOf"])
    assert (seed["minimum"], seed["maximum"]) == (0, 2**63 - 1)
    for name in ("num_images", "preview_every"):
        schema, _ = cast(list[dict[str, object]], properties[name]["anyOf"])
        assert isinstance(schema["minimum"], int)


def test_every_field_with_a_default_may_be_null(document: Node) -> None:
    content = document["paths"]["/generate"]["post"]["requestBody"]["content"]
    schema = content["application/json"]["schema"]
    for name, each in schema["properties"].items():
        choices = cast(list[object], each["anyOf"])
        assert ({"type": "null"} in choices) is (name not in schema["required"])


def test_the_document_is_right_behind_any_prefix(service: Running, document: Node) -> None:
    """As a client resolves it: against the document's own address."""
    (server,) = cast(list[dict[str, str]], document["servers"])
    address = httpx.URL("https://example.org/images/openapi.json").join(f"{server['url']}/livez")
    assert str(address) == "https://example.org/images/livez"
    assert not re.search(r"(?:href|action|src)=\"/|fetch\(\"/", service.client.get("/docs").text)


def test_the_examples_of_every_post_succeed_unchanged(service: Running, document: Node) -> None:
    sent = 0
    for path, method, operation in operations(document):
        if method != "post":
            continue
        content = operation["requestBody"]["content"].get("application/json")
        if content is None:
            continue  # a file, which has no example in the document
        validator = Draft202012Validator(content["schema"])
        for example in content["examples"].values():
            validator.validate(example["value"])
            answer = service.client.post(path, json=example["value"])
            assert answer.status_code == 200, answer.text
            sent += 1
    assert sent >= 3


def test_the_examples_of_verdicts_match_their_schema(document: Node) -> None:
    answer = document["paths"]["/verify"]["post"]["responses"]["200"]["content"]["application/json"]
    validator = Draft202012Validator({**answer["schema"], "components": document["components"]})
    for example in answer["examples"].values():
        validator.validate(example["value"])
    assert len(answer["examples"]) == 3


def test_every_get_succeeds_with_a_documented_content_type(
    service: Running, document: Node
) -> None:
    name = service.engine.model_info.name
    for path, method, operation in operations(document):
        if method == "get":
            answer = service.client.get(path.format(model=name))
            assert answer.status_code == 200
            content_type = answer.headers["Content-Type"].partition(";")[0]
            assert content_type in operation["responses"]["200"]["content"]


def test_json_answers_match_their_schemas(service: Running, document: Node) -> None:
    answers = {
        "/generate": service.client.post("/generate", json={"class_label": 0, "num_images": 2}),
        "/classes": service.client.get("/classes"),
        "/models": service.client.get("/models"),
        "/v1/models": service.client.get("/v1/models"),
        "/v1/models/{model}": service.client.get(f"/v1/models/{service.engine.model_info.name}"),
        "/v1/images/generations": service.client.post(
            "/v1/images/generations", json={"prompt": "0", "n": 2}
        ),
        "/verify": service.client.post("/verify", content=picture_file(service)),
    }
    for path, answer in answers.items():
        operation = next(iter(document["paths"][path].values()))
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        whole = {**schema, "components": document["components"]}
        Draft202012Validator(whole).validate(answer.json())


def test_problems_match_their_schema(service: Running, document: Node) -> None:
    responses = document["paths"]["/generate"]["post"]["responses"]
    bodies = {"422": {"class_label": -1}, "404": {"class_label": "aple"}}
    for status, body in bodies.items():
        schema = responses[status]["content"]["application/problem+json"]["schema"]
        answer = service.client.post("/generate", json=body)
        assert str(answer.status_code) == status
        Draft202012Validator(schema).validate(answer.json())
        assert set(answer.json()) <= set(schema["properties"])


def test_the_list_of_models_has_the_shape_that_openai_clients_expect(service: Running) -> None:
    content = service.client.get("/v1/models").json()
    assert content == service.client.get("/models").json()
    assert content["object"] == "list"
    (model,) = content["data"]
    assert model["object"] == "model"
    assert model["architecture"] == "DiT 2x128/2"
    assert (model["image_size"], model["num_classes"]) == (8, 5)
    assert (model["dtype"], model["device"]) == ("float32", "cpu")
    assert len(model["digest"]) == 64
    assert model["limits"]["cfg_scale"] == [1.0, 20.0]
    assert model["limits"]["seed"] == [0, 2**63 - 1]
    assert model["limits"]["num_images"] == [1, 16]
    assert model["defaults"]["num_sampling_steps"] == 5
