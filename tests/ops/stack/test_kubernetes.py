"""The manifests of Kubernetes: they agree with the image, the settings and each other."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.manifests.documents import Document, rendered
from deploy.manifests.schemas import faults
from service.http.routes import health
from service.http.server import CLOSE_CONNECTIONS_S, LAST_TASKS_S
from service.settings import Settings, read_settings
from tests.ops.stack.files import dockerfile, image_environment, text_of
from tests.ops.stack.kubernetes import BASE, KUBERNETES, deployment, objects, of_kind

OVERLAYS = ["cpu", "gpu"]
EVERY = [BASE, *OVERLAYS]
LABELS = {"app.kubernetes.io/name": "dit"}


@pytest.mark.parametrize("overlay", EVERY)
def test_pods_run_as_the_image_does_and_have_no_rights(overlay: str) -> None:
    pod = deployment(overlay).pod
    user, group = map(int, dict(dockerfile())["USER"].split(":"))
    rights = pod.security_context
    assert rights.run_as_non_root
    assert (rights.run_as_user, rights.run_as_group, rights.fs_group) == (user, group, group)
    assert rights.seccomp_profile == {"type": "RuntimeDefault"}
    own = pod.container.security_context
    assert own.read_only_root_filesystem
    assert not own.allow_privilege_escalation
    assert not own.privileged
    assert own.capabilities == {"drop": ["ALL"]}
    assert not pod.automount_service_account_token
    assert not any((pod.host_network, pod.host_pid, pod.host_ipc))


@pytest.mark.parametrize("overlay", EVERY)
def test_the_cluster_refuses_pods_with_more_rights(overlay: str) -> None:
    namespace = of_kind("Namespace", overlay)["metadata"]
    assert isinstance(namespace, dict)
    assert namespace["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("overlay", EVERY)
def test_probes_ask_routes_that_exist_on_the_port_of_the_image(overlay: str) -> None:
    container = deployment(overlay).pod.container
    routes = {getattr(route, "path", "") for route in health.router.routes}
    asked = {}
    for probe in (container.startup_probe, container.readiness_probe, container.liveness_probe):
        assert probe is not None
        assert probe.http_get is not None
        assert probe.http_get.path in routes
        assert probe.http_get.port == "http"
        asked[id(probe)] = probe.http_get.path
    assert list(asked.values()) == ["/readyz", "/readyz", "/livez"]
    assert container.port("http") == int(image_environment()["DIT_PORT"])
    assert container.port("metrics") == int(container.environment()["DIT_METRICS_PORT"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_settings_are_valid_and_the_grace_period_covers_the_stop(
    overlay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = deployment(overlay).pod
    given = image_environment() | pod.container.environment()
    ours = {name: value for name, value in given.items() if name.startswith("DIT_")}
    assert {name.removeprefix("DIT_").lower() for name in ours} <= set(Settings.model_fields)
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    settings = read_settings([])
    stop_s = settings.lame_duck_s + settings.drain_timeout_s + CLOSE_CONNECTIONS_S + LAST_TASKS_S
    assert pod.termination_grace_period_seconds > stop_s
    assert settings.drain_timeout_s >= settings.request_timeout_s  # all that was admitted ends
    assert not pod.container.lifecycle  # the lame duck is what a preStop hook would be
    readiness = pod.container.readiness_probe
    assert readiness is not None
    assert settings.lame_duck_s >= readiness.patience_s
    assert not pod.enable_service_links  # DIT_PORT=tcp://...
    metadata = of_kind("Service", overlay)["metadata"]
    assert isinstance(metadata, dict)
    assert metadata["name"] in settings.allowed_hosts
    assert "*.svc.cluster.local" in settings.allowed_hosts


@pytest.mark.parametrize("overlay", EVERY)
def test_an_update_takes_no_pod_before_another_is_ready(overlay: str) -> None:
    spec = deployment(overlay).spec
    assert spec.strategy.rolling_update == {"maxSurge": 1, "maxUnavailable": 0}
    startup = spec.template.spec.container.startup_probe
    assert startup is not None
    assert spec.progress_deadline_seconds > startup.patience_s
    liveness = spec.template.spec.container.liveness_probe
    assert liveness is not None
    assert liveness.patience_s >= 60  # as long as the engine's own watchdog


def selectors(node: object, key: str = "") -> Iterator[tuple[str, dict[str, str]]]:
    """The labels that an object selects pods by, and under which field."""
    if isinstance(node, dict):
        if "matchLabels" in node:
            yield key, node["matchLabels"]
        for name, value in node.items():
            yield from selectors(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from selectors(value, key)


@pytest.mark.parametrize("overlay", EVERY)
def test_everything_is_about_the_pods_of_the_deployment(overlay: str) -> None:
    spec = deployment(overlay).spec
    assert spec.template.metadata.labels == LABELS
    assert of_kind("Service", overlay)["spec"] == {
        "selector": LABELS,
        "ports": [{"name": "http", "port": 8000, "targetPort": "http"}],
    }
    found = [each for document in objects(overlay) for each in selectors(document.get("spec"))]
    ours = [labels for key, labels in found if key in ("selector", "podSelector", "labelSelector")]
    assert len(ours) >= 5  # deployment, two spreads, budget, policy
    assert all(labels == LABELS for labels in ours)


@pytest.mark.parametrize("overlay", EVERY)
def test_the_network_lets_in_clients_to_one_port_and_prometheus_to_the_other(overlay: str) -> None:
    policy = of_kind("NetworkPolicy", overlay)["spec"]
    assert isinstance(policy, dict)
    assert sorted(policy["policyTypes"]) == ["Egress", "Ingress"]
    by_port = {rule["ports"][0]["port"]: rule["from"] for rule in policy["ingress"]}
    assert set(by_port) == {"http", "metrics"}
    assert all(len(rule["ports"]) == 1 for rule in policy["ingress"])
    assert all(by_port.values())  # an empty list would be everybody
    (scraper,) = by_port["metrics"]
    assert set(scraper) == {"namespaceSelector"}


def test_pods_connect_to_nobody_but_to_a_hub_where_they_need_one() -> None:
    egress = {name: of_kind("NetworkPolicy", name)["spec"] for name in EVERY}
    for name in (BASE, "cpu"):
        spec = egress[name]
        assert isinstance(spec, dict)
        assert spec["egress"] == []
    hub = egress["gpu"]
    assert isinstance(hub, dict)
    names, https = hub["egress"]
    assert {each["port"] for each in names["ports"]} == {53}
    assert [each["port"] for each in https["ports"]] == [443]
    first = https["to"][0]["ipBlock"]
    assert first["cidr"] == "0.0.0.0/0"
    assert "169.254.0.0/16" in first["except"]  # the cloud's credentials


@pytest.mark.parametrize("overlay", EVERY)
def test_what_the_image_writes_to_is_a_volume_of_bounded_size(overlay: str) -> None:
    pod = deployment(overlay).pod
    mounts = pod.container.mounted_at()
    environment = image_environment()
    assert str(Path(environment["DIT_ADDRESS_FILE"]).parent) in mounts
    assert environment["HF_HOME"] in mounts
    compiled = str(Path(environment["TRITON_CACHE_DIR"]).parent)
    assert (compiled in mounts) is (overlay == "gpu")
    assert len({volume.name for volume in pod.volumes}) == len(pod.volumes)
    for mount in pod.container.volume_mounts:
        volume = pod.volume(mount.name)
        assert volume.host_path is None
        if volume.empty_dir is not None:
            assert "sizeLimit" in volume.empty_dir, volume.name
        else:
            assert mount.read_only


def test_a_pod_on_a_gpu_has_one_and_one_on_a_cpu_a_whole_number_of_processors() -> None:
    gpu, cpu = (deployment(name).pod.container for name in ("gpu", "cpu"))
    assert gpu.resources.limits["nvidia.com/gpu"] == "1"
    assert "cpu" not in gpu.resources.limits
    assert int(cpu.resources.limits["cpu"]) >= 1  # the service runs as many threads
    assert "nvidia.com/gpu" not in cpu.resources.limits
    for container in (gpu, cpu):
        assert container.resources.limits["memory"]
        assert set(container.resources.requests) >= {"cpu", "memory"}
    assert gpu.environment()["DIT_DEVICE"] == "cuda"
    assert cpu.environment()["DIT_DEVICE"] == "cpu"


def test_secrets_are_files_and_a_gpu_asks_for_keys() -> None:
    pod = deployment("gpu").pod
    mounts = pod.container.mounted_at()
    for variable, optional in (("DIT_API_KEYS_FILE", False), ("HF_TOKEN_PATH", True)):
        mount = mounts[str(Path(pod.container.environment()[variable]).parent)]
        secret = pod.volume(mount.name).secret
        assert secret is not None
        assert secret.get("optional", False) is optional
        assert secret["defaultMode"] == 0o440  # of root, for fsGroup to read
        assert mount.read_only
    for overlay in EVERY:
        for each in deployment(overlay).pod.container.env:
            assert each.value_from is None, each.name
            assert each.name not in ("HF_TOKEN", "DIT_API_KEYS")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_images_have_the_version_of_the_project(overlay: str) -> None:
    version = tomllib.loads(text_of("pyproject.toml"))["project"]["version"]
    name, _, tag = deployment(overlay).pod.container.image.rpartition(":")
    assert name.rpartition("/")[2] == "dit-service"
    assert tag == (version if overlay == "gpu" else f"{version}-cpu")


def test_the_number_of_pods_has_one_owner() -> None:
    assert deployment(BASE).spec.replicas is None
    assert deployment("gpu").spec.replicas is None  # the autoscaler's
    assert deployment("cpu").spec.replicas == 2


def test_pods_are_spread_over_nodes_and_zones() -> None:
    topologies = [each["topologyKey"] for each in deployment(BASE).pod.topology_spread_constraints]
    assert topologies == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]


def with_component(folder: Path, name: str) -> list[Document]:
    """The overlay for GPUs with one more component."""
    objects("gpu")  # skips without kubectl
    tree = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(KUBERNETES / "gpu", folder)],
        "components": [os.path.relpath(KUBERNETES / name, folder)],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(tree))
    return rendered(folder)


def test_the_weights_can_have_a_volume_that_stays(tmp_path: Path) -> None:
    built = with_component(tmp_path.resolve(), "model-cache")
    assert [fault for each in built for fault in faults(each)] == []
    (claim,) = (each for each in built if each["kind"] == "PersistentVolumeClaim")
    (changed,) = (each for each in built if each["kind"] == "Deployment")
    volumes = {
        each.name: each for each in type(deployment("gpu")).model_validate(changed).pod.volumes
    }
    assert isinstance(claim["metadata"], dict)
    assert volumes["huggingface"].persistent_volume_claim == {
        "claimName": claim["metadata"]["name"]
    }
    assert volumes["huggingface"].empty_dir is None
