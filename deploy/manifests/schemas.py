"""Schemas: what objects of each kind may look like, unknown fields refused.

Kubernetes' own are taken from the package kubernetes-validate (see `extract`); those of the operators
are written by hand, and know the fields that our manifests use.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from referencing import Registry, Resource

from deploy.manifests.documents import Document, kind_of

FOLDER = Path(__file__).parent / "schemas"
KUBERNETES = FOLDER / "kubernetes.json"

Schema = dict[str, object]
Kind = tuple[str, str]


@cache
def registry() -> Registry[Schema]:
    """Every file of schemas, by its name."""
    contents = [(KUBERNETES.name, json.loads(KUBERNETES.read_text(encoding="utf-8")))]
    for path in sorted(FOLDER.glob("*.yaml")):
        contents.append((path.name, yaml.safe_load(path.read_text(encoding="utf-8"))))
    return Registry().with_resources(
        (name, Resource.from_contents(tree)) for name, tree in contents
    )


@cache
def known() -> dict[Kind, Schema]:
    """The schema of each kind."""
    places = [(kind, f"{KUBERNETES.name}#/$defs/{name}") for kind, name in _kubernetes()]
    return {kind: {"$ref": place} for kind, place in (*places, *_operators())}


def _kubernetes() -> Iterator[tuple[Kind, str]]:
    for name, schema in json.loads(KUBERNETES.read_text(encoding="utf-8"))["$defs"].items():
        fields = schema.get("properties", {})
        kinds = fields.get("kind", {}).get("enum", [])
        for kind in kinds:  # none, where it is only a part or a reference
            (version,) = fields["apiVersion"]["enum"]
            yield (version, kind), name


def _operators() -> Iterator[tuple[Kind, str]]:
    for path in sorted(FOLDER.glob("*.yaml")):
        properties = yaml.safe_load(path.read_text(encoding="utf-8"))["properties"]
        yield (properties["apiVersion"]["const"], properties["kind"]["const"]), path.name


def faults(document: Document, others: dict[Kind, Schema] | None = None) -> list[str]:
    """What is wrong with an object, a line each.

    Args:
        others: schemas that hold beside ours, as of the CRDs of a cluster.
    """
    kind = kind_of(document)
    schemas = [table[kind] for table in (known(), others or {}) if kind in table]
    if not schemas:
        return [f"{'/'.join(kind)}: there is no schema for this"]
    return [fault for schema in schemas for fault in _faults(schema, document)]


def _faults(schema: Schema, document: Document) -> Iterator[str]:
    for error in Draft202012Validator(schema, registry=registry()).iter_errors(document):
        # Each reason why none of a choice fits says more than that none does.
        for reason in error.context or (error,):
            yield f"{reason.json_path}: {reason.message[:300]}"
