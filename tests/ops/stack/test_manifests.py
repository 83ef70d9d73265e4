"""The manifests fit their schemas, and the schemas refuse what does not fit."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from deploy.manifests import crds, rules
from deploy.manifests.documents import OVERLAYS, ROOT, Document, files, name_of, patches
from deploy.manifests.extract import reached
from deploy.manifests.schemas import faults
from tests.ops.stack.kubernetes import objects

WHOLE = [each for path, each in files() if path not in patches()]


@pytest.mark.parametrize("document", WHOLE, ids=name_of)
def test_every_object_fits_its_schema(document: Document) -> None:
    assert faults(document) == []


@pytest.mark.parametrize("overlay", [Path(each).name for each in OVERLAYS])
def test_what_kustomize_makes_of_an_overlay_fits(overlay: str) -> None:
    built = objects(overlay)
    assert built
    assert [fault for each in built for fault in faults(each)] == []


def planted(document: Document, path: str, value: object) -> Document:
    """A copy of the object with another value at a path; None takes the field out."""
    changed = copy.deepcopy(document)
    *folders, last = path.split(".")
    place: object = changed
    for name in folders:
        place = place[int(name)] if isinstance(place, list) else place[name]  # type: ignore[index]
    assert isinstance(place, dict)
    if value is None:
        del place[last]
    else:
        place[last] = value
    return changed


CONTAINER = "spec.template.spec.containers.0"


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", "spec.template.spec.terminationGraceSeconds", 345),
        ("Deployment", f"{CONTAINER}.securityContext.runAsRoot", True),
        ("Deployment", f"{CONTAINER}.readinessProbe.httpGet.port", None),
        ("Deployment", f"{CONTAINER}.livenessProbe.periodSeconds", "10s"),
        ("Deployment", f"{CONTAINER}.env.1.value", 9464),
        ("Deployment", f"{CONTAINER}.resources", {"limits": ["nvidia.com/gpu"]}),
        ("Deployment", "spec.strategy.rollingUpdate.maxUnavailable", [0]),
        ("Deployment", "apiVersion", "extensions/v1beta1"),
        ("Service", "spec.ports.0.port", "8000"),
        ("Service", "spec.ports.0.port", None),
        ("PodDisruptionBudget", "spec.maxUnavailables", 1),
        ("NetworkPolicy", "spec.ingress.0.from.0.podSelectors", {}),
        ("NetworkPolicy", "spec.podSelector", "dit"),
        ("Namespace", "metadata.label", {}),
        ("ServiceAccount", "automountServiceAccountToken", "false"),
        ("PersistentVolumeClaim", "spec.accessModes", "ReadWriteMany"),
        ("PodMonitor", "spec.podMetricsEndpoints.0.ports", "metrics"),
        ("PodMonitor", "spec.podMetricsEndpoints.0.interval", "15"),
        ("PrometheusRule", "spec.groups.0.rules.0.expression", "up"),
        ("PrometheusRule", "spec.groups.0.rules.0.expr", None),
        ("PrometheusRule", "spec.groups.0.rules.0.for", "a minute"),
        ("ScaledObject", "spec.minReplicas", 2),
        ("ScaledObject", "spec.triggers.0.metadata.server", "http://prometheus:9090"),
        ("ScaledObject", "spec.triggers.0.metadata.threshold", 1200),
        ("ScaledObject", "spec.triggers.0.metadata.query", None),
        ("ScaledObject", "spec.fallback.behavior", "keep"),
    ],
)
def test_a_fault_is_found(kind: str, path: str, value: object) -> None:
    document = next(each for each in WHOLE if each["kind"] == kind)
    assert faults(document) == []
    assert faults(planted(document, path, value))


def test_an_object_of_an_unknown_kind_is_a_fault() -> None:
    assert faults({"apiVersion": "v1", "kind": "Pods"}) == ["v1/Pods: there is no schema for this"]


CRD = """
kind: CustomResourceDefinition
spec:
  group: example.org
  names: {kind: Thing}
  versions:
    - name: v1
      schema:
        openAPIV3Schema:
          type: object
          properties:
            apiVersion: {type: string}
            kind: {type: string}
            metadata: {type: object}
            spec:
              type: object
              properties:
                port: {anyOf: [{type: integer}, {type: string}], x-kubernetes-int-or-string: true}
                names: {type: array, items: {type: object, properties: {name: {type: string}}}}
                free: {type: object, properties: {}, x-kubernetes-preserve-unknown-fields: true}
"""


@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        ({"port": 8000, "names": [{"name": "a"}], "free": {"any": "thing"}}, True),
        ({"port": "http"}, True),
        ({"port": [8000]}, False),
        ({"ports": 8000}, False),
        ({"names": [{"nme": "a"}]}, False),
    ],
)
def test_the_schemas_of_a_cluster_hold_too(spec: object, fits: bool, tmp_path: Path) -> None:
    (tmp_path / "crd.yaml").write_text(CRD)
    others = crds.schemas_in(tmp_path)
    metadata = {"name": "a", "labels": {"b": "c"}}
    thing = {"apiVersion": "example.org/v1", "kind": "Thing", "metadata": metadata, "spec": spec}
    assert (faults(thing, others) == []) is fits


def test_of_kubernetes_only_what_is_needed_is_kept() -> None:
    definitions: dict[str, dict[str, object]] = {
        "a": {
            "description": "words",
            "type": ["object", "null"],
            "properties": {"description": {"$ref": "#/$defs/b"}},
            "x-kubernetes-list-type": "atomic",
        },
        "b": {"type": "string"},
        "c": {"type": "string"},
    }
    assert reached(definitions, ["a"]) == {
        "a": {"type": "object", "properties": {"description": {"$ref": "#/$defs/b"}}},
        "b": {"type": "string"},
    }


def test_the_alerts_are_those_of_compose() -> None:
    text = rules.FILE.read_text(encoding="utf-8")
    assert text == rules.text(), "make manifests writes it"
    alerts = yaml.safe_load(rules.ALERTS.read_text(encoding="utf-8"))
    assert yaml.safe_load(text)["spec"] == alerts
    assert rules.ALERTS.samefile(ROOT / "deploy/alerts.yml")
