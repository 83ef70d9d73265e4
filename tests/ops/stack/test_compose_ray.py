"""docker-compose.yml's profile `ray`: a head and workers, whose own ports nobody else reaches."""

from __future__ import annotations

import re

import pytest
import yaml

from deploy.lock.__main__ import entries
from tests.ops.stack.files import PUBLISHED, compose_services, text_of, with_defaults

HEAD, WORKER = (compose_services()[name] for name in ("ray-head", "ray-worker"))
FLEET = {"ray-head": HEAD, "ray-worker": WORKER}
SCRIPT = text_of("deploy/ray/head.sh")


def test_only_the_port_of_serve_is_published() -> None:
    assert HEAD.ports == [PUBLISHED]
    assert WORKER.ports == []
    assert "--dashboard-host=127.0.0.1" in SCRIPT
    options = " ".join([*HEAD.command, *WORKER.command, *WORKER.entrypoint, SCRIPT])
    assert "ray-client-server" not in options  # runs what it is sent


def test_rays_ports_are_in_a_network_of_prometheus_and_its_own() -> None:
    inside = {name for name, each in compose_services().items() if "ray" in each.networks}
    assert inside == {*FLEET, "prometheus"}
    assert all(list(each.networks) == ["ray"] for each in FLEET.values())


@pytest.mark.parametrize("name", FLEET)
def test_ray_asks_for_a_token_from_a_file(name: str) -> None:
    container = FLEET[name]
    assert container.environment["RAY_AUTH_MODE"] == "token"
    path = str(container.environment["RAY_AUTH_TOKEN_PATH"])
    assert path == "/run/secrets/ray_token"
    assert "ray_token" in container.secrets
    assert "RAY_AUTH_TOKEN" not in container.environment
    assert str(container.environment["RAY_USAGE_STATS_ENABLED"]) == "0"


@pytest.mark.parametrize("name", FLEET)
def test_the_image_has_ray(name: str) -> None:
    assert FLEET[name].image == "dit-service:ray"
    assert FLEET[name].build_args()["RAY"] == "1"
    assert "ray" in entries(text_of("deploy/lock/ray.txt"))


def test_the_head_serves_the_configuration_to_others_than_itself() -> None:
    *_, script, configuration = HEAD.entrypoint
    mounted = HEAD.mounts()["/etc/dit/ray"]
    assert text_of(f"{mounted}/{script.rpartition('/')[2]}") == SCRIPT
    text = text_of(f"{mounted}/{configuration.rpartition('/')[2]}")
    (pattern, replacement) = re.findall(r"sed 's/(.+)/(.+)/'", SCRIPT)[0]
    changed = yaml.safe_load(re.sub(pattern, replacement, text, flags=re.MULTILINE))
    assert yaml.safe_load(text)["http_options"]["host"] == "127.0.0.1"
    assert changed["http_options"] == {"host": "0.0.0.0", "port": 8000}


def test_the_workers_find_the_head_and_have_room_for_the_replicas() -> None:
    (port,) = (each for each in HEAD.command if each.startswith("--port="))
    assert f"--address=ray-head:{port.removeprefix('--port=')}" in WORKER.command
    assert "--num-cpus=0" in HEAD.command
    (application,) = yaml.safe_load(text_of("deploy/ray/serve.yaml"))["applications"]
    arguments = application["args"]
    needed = arguments["front"]["num_cpus"] * arguments["front"]["num_replicas"]
    needed += sum(each["num_cpus"] * each["num_replicas"] for each in arguments["models"])
    (each,) = (int(one.partition("=")[2]) for one in WORKER.command if "num-cpus" in one)
    assert WORKER.deploy is not None
    assert each * int(with_defaults(WORKER.deploy.replicas)) >= needed
    for container in FLEET.values():
        (store,) = (one for one in container.command if "object-store-memory" in one)
        assert int(store.partition("=")[2]) < 1 << 30
        assert container.shm_size == "1g"


def test_prometheus_can_scrape_the_fleet_as_it_does_a_service() -> None:
    config = yaml.safe_load(text_of("deploy/ray/prometheus.yml"))
    usual = yaml.safe_load(text_of("deploy/prometheus.yml"))
    job = config["scrape_configs"][0]
    assert job["job_name"] == usual["scrape_configs"][0]["job_name"]
    assert job["static_configs"] == [{"targets": ["ray-head:8000"]}]
    for name in ("global", "rule_files", "alerting"):
        assert config[name] == usual[name]
    (place,) = (each for each in compose_services()["prometheus"].volumes if "CONFIG" in each)
    assert place.startswith("${PROMETHEUS_CONFIG:-./deploy/prometheus.yml}:")
    # The fleet's metrics are on the port that is published, and Prometheus has no key.
    assert WORKER.environment["DIT_METRICS_WITHOUT_KEY"] == "true"
    assert "ray-head" in with_defaults(str(WORKER.environment["DIT_ALLOWED_HOSTS"]))


def test_gpus_are_all_in_one_worker() -> None:
    services = yaml.safe_load(text_of("deploy/ray/compose.gpu.yml"))["services"]
    assert services.keys() == FLEET.keys()
    worker = services["ray-worker"]["deploy"]
    (device,) = worker["resources"]["reservations"]["devices"]
    assert (worker["replicas"], device["count"]) == (1, "all")
    for each in services.values():
        assert each["build"]["args"]["COMPILER"] == "gcc"
