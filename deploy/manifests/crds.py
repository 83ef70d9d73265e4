"""CRDs: the schemas in a folder of CustomResourceDefinitions, as strict as the API server is when asked."""

from __future__ import annotations

from pathlib import Path

import yaml

from deploy.manifests.schemas import Kind, Schema


def schemas_in(folder: Path) -> dict[Kind, Schema]:
    """The schema of every kind and version that the folder's YAML files define."""
    found: dict[Kind, Schema] = {}
    for path in sorted(folder.rglob("*.yaml")):
        for tree in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if isinstance(tree, dict) and tree.get("kind") == "CustomResourceDefinition":
                found |= _versions(tree["spec"])
    return found


def _versions(spec: dict[str, object]) -> dict[Kind, Schema]:
    group, names, versions = spec["group"], spec["names"], spec["versions"]
    assert isinstance(names, dict)
    assert isinstance(versions, list)
    return {
        (f"{group}/{each['name']}", names["kind"]): strict(each["schema"]["openAPIV3Schema"], True)
        for each in versions
    }


def strict(schema: Schema, root: bool = False) -> Schema:
    """An OpenAPI v3 schema of a CRD as a JSON schema that refuses fields that it does not list."""
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    ours = {key: value for key, value in schema.items() if not key.startswith(("x-", "format"))}
    for key in ("items", "additionalProperties"):
        if isinstance(inner := schema.get(key), dict):
            ours[key] = strict(inner)
    if isinstance(fields := schema.get("properties"), dict):
        # The API server itself knows the fields of an object's metadata.
        known: Schema = {"metadata": {"type": "object"}} if root else {}
        ours["properties"] = {name: strict(each) for name, each in fields.items()} | known
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            ours.setdefault("additionalProperties", False)
    return ours
