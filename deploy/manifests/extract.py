"""Write schemas/kubernetes.json: of Kubernetes' schemas those that our manifests need.

make schemas; from the package kubernetes-validate (Apache-2.0), without descriptions. They stem from
Kubernetes' OpenAPI document (Apache-2.0).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.metadata import version
from importlib.resources import files

from deploy.manifests.schemas import KUBERNETES, Schema

KINDS = (
    "apps.v1.Deployment",
    "core.v1.ConfigMap",
    "core.v1.Namespace",
    "core.v1.PersistentVolumeClaim",
    "core.v1.PodTemplateSpec",
    "core.v1.Secret",
    "core.v1.Service",
    "core.v1.ServiceAccount",
    "networking.v1.NetworkPolicy",
    "policy.v1.PodDisruptionBudget",
)
PACKAGE = "kubernetes-validate"


def cleaned(node: object, fields: bool = False) -> object:
    """A schema without words and without null, which no manifest of ours needs."""
    if isinstance(node, list):
        return [cleaned(each) for each in node]
    if not isinstance(node, dict):
        return node
    kept = {
        name: cleaned(value, name == "properties" and not fields)
        for name, value in node.items()
        if fields or not (name == "description" or name.startswith("x-"))
    }
    if not fields and isinstance(types := kept.get("type"), list):
        (kept["type"],) = (each for each in types if each != "null")
    return kept


def references(node: object) -> Iterator[str]:
    """The names of the definitions that a schema refers to."""
    if isinstance(node, dict):
        if isinstance(target := node.get("$ref"), str):
            yield target.rpartition("/")[2]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def reached(definitions: dict[str, Schema], names: list[str]) -> dict[str, object]:
    """These definitions and all that they refer to."""
    found: dict[str, object] = {}
    while names:
        if (name := names.pop()) not in found:
            found[name] = cleaned(definitions[name])
            names += references(found[name])
    return dict(sorted(found.items()))


def main() -> None:
    release = ".".join(version(PACKAGE).split(".")[:2])
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{release}.0-local-strict"
    tree = json.loads((folder / "_definitions.json").read_text(encoding="utf-8"))
    found = reached(tree["$defs"], [f"io.k8s.api.{each}" for each in KINDS])
    about = (
        f"Of Kubernetes {release}, from the package {PACKAGE} (both Apache-2.0), by `make schemas`."
    )
    text = json.dumps({"$schema": tree["$schema"], "$comment": about, "$defs": found}, indent=1)
    # A definition a line.
    lines = re.sub(r"\n {3,}|\n {2}(?=\})", "", text)
    KUBERNETES.write_text(lines + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
