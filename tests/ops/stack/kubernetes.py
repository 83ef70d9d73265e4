"""The manifests, as Kubernetes reads them: the fields that the tests use."""

from __future__ import annotations

from functools import cache

import pytest
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from deploy.manifests.documents import MISSING, OVERLAYS, ROOT, Document, files, kubectl, rendered

KUBERNETES = ROOT / "deploy" / "kubernetes"
BASE = "base"


class Fields(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)


class Metadata(Fields):
    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}


class Variable(Fields):
    name: str
    value: str | None = None
    value_from: dict[str, object] | None = None


class Port(Fields):
    name: str
    container_port: int


class Mount(Fields):
    name: str
    mount_path: str
    read_only: bool = False


class HttpGet(Fields):
    path: str
    port: str | int


class Probe(Fields):
    http_get: HttpGet | None = None
    exec: dict[str, list[str]] | None = None
    period_seconds: int = 10
    timeout_seconds: int = 1
    failure_threshold: int = 3

    @property
    def patience_s(self) -> int:
        return self.period_seconds * self.failure_threshold


class Resources(Fields):
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}


class SecurityContext(Fields):
    run_as_non_root: bool = False
    run_as_user: int = 0
    run_as_group: int = 0
    fs_group: int = 0
    seccomp_profile: dict[str, str] = {}
    allow_privilege_escalation: bool = True
    read_only_root_filesystem: bool = False
    privileged: bool = False
    capabilities: dict[str, list[str]] = {}


class Container(Fields):
    name: str
    image: str
    command: list[str] = []
    args: list[str] = []
    env: list[Variable] = []
    ports: list[Port] = []
    volume_mounts: list[Mount] = []
    resources: Resources = Resources()
    security_context: SecurityContext = SecurityContext()
    startup_probe: Probe | None = None
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    lifecycle: dict[str, object] = {}

    def environment(self) -> dict[str, str]:
        return {each.name: each.value or "" for each in self.env}

    def port(self, name: str) -> int:
        (number,) = (each.container_port for each in self.ports if each.name == name)
        return number

    def mounted_at(self) -> dict[str, Mount]:
        return {each.mount_path: each for each in self.volume_mounts}


class Volume(Fields):
    name: str
    empty_dir: dict[str, str] | None = None
    secret: dict[str, object] | None = None
    config_map: dict[str, object] | None = None
    persistent_volume_claim: dict[str, str] | None = None
    host_path: dict[str, str] | None = None


class PodSpec(Fields):
    containers: list[Container]
    volumes: list[Volume] = []
    service_account_name: str = ""
    automount_service_account_token: bool = True
    enable_service_links: bool = True
    termination_grace_period_seconds: int = 30
    security_context: SecurityContext = SecurityContext()
    topology_spread_constraints: list[dict[str, object]] = []
    tolerations: list[dict[str, str]] = []
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False

    @property
    def container(self) -> Container:
        (only,) = self.containers
        return only

    def volume(self, name: str) -> Volume:
        (found,) = (each for each in self.volumes if each.name == name)
        return found


class Template(Fields):
    metadata: Metadata = Metadata()
    spec: PodSpec


class Strategy(Fields):
    rolling_update: dict[str, int | str]


class DeploymentSpec(Fields):
    template: Template
    selector: dict[str, dict[str, str]]
    strategy: Strategy
    replicas: int | None = None
    progress_deadline_seconds: int = 600


class Deployment(Fields):
    metadata: Metadata
    spec: DeploymentSpec

    @property
    def pod(self) -> PodSpec:
        return self.spec.template.spec


@cache
def objects(overlay: str) -> tuple[Document, ...]:
    """The objects of the base's files, or of an overlay as kustomize builds it."""
    if overlay == BASE:
        return tuple(each for path, each in files() if path.parent == KUBERNETES / BASE)
    if kubectl() is None:
        pytest.skip(MISSING)
    (folder,) = (each for each in OVERLAYS if each.endswith(f"/{overlay}"))
    return tuple(rendered(ROOT / folder))


def of_kind(kind: str, overlay: str) -> Document:
    (found,) = (each for each in objects(overlay) if each["kind"] == kind)
    return found


def deployment(overlay: str) -> Deployment:
    return Deployment.model_validate(of_kind("Deployment", overlay))
