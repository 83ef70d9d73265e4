"""deploy/ray: what KubeRay is given, beside the configuration for one machine."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from deploy.lock.__main__ import entries
from deploy.manifests.documents import ROOT, Document, files
from deploy.manifests.schemas import faults
from service.fleet.config import FleetConfig, ModelConfig
from tests.ops.stack.files import dockerfile, image_environment, text_of
from tests.ops.stack.kubernetes import Container, Fields, Template
from tests.ops.stack.test_manifests import planted

RAY = ROOT / "deploy" / "ray"
TOKEN_PORTS = {6379, 8265, 10001, 52365}
"""Ray's own: whoever reaches one of them, and has the token, runs code."""


class Head(Fields):
    ray_start_params: dict[str, str]
    template: Template


class Workers(Head):
    min_replicas: int
    max_replicas: int


class AutoscalerOptions(Fields):
    security_context: dict[str, object]


class Cluster(Fields):
    ray_version: str
    auth_options: dict[str, str]
    enable_in_tree_autoscaling: bool
    autoscaler_options: AutoscalerOptions
    head_group_spec: Head
    worker_group_specs: list[Workers]


class RayServiceSpec(Fields):
    serve_config_v2: str
    ray_cluster_deletion_delay_seconds: int
    ray_cluster_config: Cluster


@cache
def manifest(kind: str) -> Document:
    (found,) = (each for path, each in files() if path.parent == RAY and str(each["kind"]) == kind)
    return found


@cache
def service() -> RayServiceSpec:
    spec = manifest("RayService")["spec"]
    assert isinstance(spec, dict)

    return RayServiceSpec.model_validate(spec)


def cluster() -> Cluster:
    return service().ray_cluster_config


def workers() -> Workers:
    (group,) = cluster().worker_group_specs
    return group


@cache
def serve_configs() -> dict[str, dict[str, object]]:
    """Of one machine, and of a cluster."""
    return {
        "serve.yaml": yaml.safe_load(text_of("deploy/ray/serve.yaml")),
        "ray-service.yaml": yaml.safe_load(service().serve_config_v2),
    }


@cache
def fleet(name: str) -> FleetConfig:
    applications = serve_configs()[name]["applications"]
    assert isinstance(applications, list)
    (application,) = applications
    assert application["import_path"] == "service.ray_app:build"
    assert application["route_prefix"] == "/"
    return FleetConfig.model_validate(application["args"])


@pytest.mark.parametrize("name", ["serve.yaml", "ray-service.yaml"])
def test_the_configuration_is_one_that_the_application_takes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in image_environment().items():
        if variable.startswith("DIT_"):
            monkeypatch.setenv(variable, value)
    for model in fleet(name).models:
        assert model.read_settings().model_name == model.name


def gpu_model() -> ModelConfig:
    (model,) = fleet("ray-service.yaml").models
    return model


def test_there_are_as_many_workers_as_replicas() -> None:
    scaling, group = gpu_model().autoscaling, workers()
    assert scaling is not None
    assert (scaling.min_replicas, scaling.max_replicas) == (group.min_replicas, group.max_replicas)
    assert group.min_replicas >= 2
    assert cluster().enable_in_tree_autoscaling
    assert gpu_model().num_gpus == float(group.ray_start_params["num-gpus"]) == 1
    assert group.template.spec.container.resources.limits["nvidia.com/gpu"] == "1"
    room = float(group.ray_start_params["num-cpus"])
    assert gpu_model().num_cpus + fleet("ray-service.yaml").front.num_cpus <= room
    assert cluster().head_group_spec.ray_start_params["num-cpus"] == "0"


def test_the_old_cluster_outlives_its_requests() -> None:
    timeout_s = gpu_model().read_settings().request_timeout_s
    assert service().ray_cluster_deletion_delay_seconds > timeout_s


def pods() -> dict[str, Template]:
    return {"head": cluster().head_group_spec.template, "worker": workers().template}


@pytest.mark.parametrize("role", ["head", "worker"])
def test_rays_pods_run_as_the_image_does_and_have_no_rights(role: str) -> None:
    pod = pods()[role].spec
    user, group = map(int, dict(dockerfile())["USER"].split(":"))
    rights = pod.security_context
    assert rights.run_as_non_root
    assert (rights.run_as_user, rights.run_as_group, rights.fs_group) == (user, group, group)
    assert rights.seccomp_profile == {"type": "RuntimeDefault"}
    own = pod.container.security_context
    assert own.read_only_root_filesystem
    assert not own.allow_privilege_escalation
    assert own.capabilities == {"drop": ["ALL"]}
    assert cluster().autoscaler_options.security_context["readOnlyRootFilesystem"] is True
    assert not any((pod.host_network, pod.host_pid, pod.host_ipc, pod.enable_service_links))
    for volume in pod.volumes:
        assert volume.host_path is None
        assert volume.empty_dir is None or "sizeLimit" in volume.empty_dir
    assert "/tmp" in pod.container.mounted_at()  # where Ray writes
    assert pod.automount_service_account_token is (role == "head")  # the autoscaler is beside it


@pytest.mark.parametrize("role", ["head", "worker"])
def test_probes_need_nothing_that_the_image_lacks(role: str) -> None:
    """KubeRay's own call wget."""
    container = pods()[role].spec.container
    assert container.readiness_probe is not None
    assert container.liveness_probe is not None
    for probe in (container.readiness_probe, container.liveness_probe):
        assert probe.http_get is not None
        assert probe.exec is None
    ready = container.readiness_probe.http_get
    assert ready is not None
    served = ("/-/healthz", "serve")
    assert ((ready.path, ready.port) == served) is (role == "worker")


def test_the_heads_service_has_the_ports_that_workers_and_the_operator_use() -> None:
    head, worker = (pods()[role].spec.container for role in ("head", "worker"))
    named = {each.name: each.container_port for each in head.ports}
    assert named == {"serve": 8000, "gcs-server": 6379, "dashboard": 8265}
    assert [each.name for each in worker.ports] == ["serve"]


def test_ray_asks_for_a_token_and_only_its_own_pods_and_the_operator_reach_its_ports() -> None:
    assert cluster().auth_options == {"mode": "token"}
    main = next(each for each in ray_documents() if name_of_policy(each) == "dit-ray")["spec"]
    assert isinstance(main, dict)
    labels = pods()["head"].metadata.labels
    assert main["podSelector"] == {"matchLabels": labels}
    for rule in main["ingress"]:
        ports = {each["port"] for each in rule.get("ports", ())}
        if rule["from"] == [{"podSelector": {"matchLabels": labels}}]:
            continue
        assert ports, "everything is open"
        if ports & TOKEN_PORTS:
            namespaces = [each["namespaceSelector"]["matchLabels"] for each in rule["from"]]
            assert namespaces == [{"kubernetes.io/metadata.name": "kuberay-operator"}]
        else:
            assert ports == {8000}


def ray_documents() -> list[Document]:
    return [each for path, each in files() if path.parent == RAY]


def name_of_policy(document: Document) -> str:
    if document["kind"] != "NetworkPolicy":
        return ""
    metadata = document["metadata"]
    assert isinstance(metadata, dict)
    return str(metadata["name"])


def test_keys_are_a_secret_that_the_replicas_read() -> None:
    settings = gpu_model().read_settings()
    assert settings.api_keys_file is not None
    pod = workers().template.spec
    mount = pod.container.mounted_at()[str(Path(settings.api_keys_file).parent)]
    secret = pod.volume(mount.name).secret
    assert secret is not None
    assert not secret.get("optional", False)


def test_the_image_has_the_version_of_ray_that_the_manifest_names() -> None:
    version = cluster().ray_version
    assert entries(text_of("deploy/lock/ray.txt"))["ray"].startswith(f"ray=={version} ")
    assert f"\nray=={version}\n" in text_of("constraints.txt")
    images = {each.spec.container.image for each in pods().values()}
    (image,) = images
    assert image.endswith("-ray")


def test_one_proxy_is_scraped() -> None:
    """Each answers with the metrics of all replicas."""
    spec = manifest("PodMonitor")["spec"]
    assert isinstance(spec, dict)
    assert spec["selector"]["matchLabels"]["ray.io/node-type"] == "head"
    (endpoint,) = spec["podMetricsEndpoints"]
    (job,) = (each for each in endpoint["relabelings"] if each["targetLabel"] == "job")
    assert job["replacement"] == "dit"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.serveConfig", "applications: []"),
        ("spec.rayClusterConfig.rayVersion", 2.6),
        ("spec.rayClusterConfig.authOptions.mode", "none"),
        ("spec.rayClusterConfig.headGroupSpec.rayStartParams.num-cpus", 0),
        ("spec.rayClusterConfig.headGroupSpec.template.spec.containers", None),
        ("spec.rayClusterConfig.workerGroupSpecs.0.maxReplicas", None),
        ("spec.rayClusterConfig.workerGroupSpecs.0.template.spec.tolerations", "all"),
    ],
)
def test_a_fault_of_the_ray_service_is_found(path: str, value: object) -> None:
    document = manifest("RayService")
    assert faults(document) == []
    assert faults(planted(document, path, value))


def test_containers_are_named_as_kuberay_wants_them() -> None:
    named: list[Container] = [each.spec.container for each in pods().values()]
    assert all(re.fullmatch(r"[a-z0-9-]+", each.name) for each in named)
