"""docker-compose.yml: what it starts, with which rights and limits."""

from __future__ import annotations

import re

import pytest
import yaml

from deploy.image_check.__main__ import compose_environment
from service.http.server import CLOSE_CONNECTIONS_S
from service.settings import Settings, read_settings
from tests.ops.stack.files import (
    LOOPBACK,
    PUBLISHED,
    ROOT,
    compose_services,
    image_environment,
    started,
    text_of,
    with_defaults,
)

MONITORS = {"prometheus", "alertmanager", "grafana"}
EVERY = sorted(compose_services())
SERVING = ["dit", "dit-cpu"]
FLEET = ["ray-head", "ray-worker"]


@pytest.mark.parametrize(
    ("profile", "names"),
    [
        (None, {"dit", "dcgm-exporter", *MONITORS}),
        ("cpu", {"dit-cpu", *MONITORS}),
        ("ray", {*FLEET, *MONITORS}),
    ],
)
def test_compose_starts_one_service_and_what_watches_it(
    profile: str | None, names: set[str]
) -> None:
    running = started(profile)
    assert set(running) == names
    (serving,) = [one for one in running.values() if one.ports == [PUBLISHED]]
    assert serving.reserves_gpu is (profile is None)


@pytest.mark.parametrize("profile", [None, "cpu"])
def test_prometheus_finds_the_service_and_its_rules(profile: str | None) -> None:
    running = started(profile)
    mounts = running["prometheus"].mounts()
    config_path = "/etc/prometheus/prometheus.yml"
    config = yaml.safe_load(text_of(mounts[config_path]))
    for name in config["rule_files"]:
        assert (ROOT / mounts[f"/etc/prometheus/{name}"]).is_file()
    host, _, port = config["scrape_configs"][0]["static_configs"][0]["targets"][0].partition(":")
    (serving,) = [one for one in running.values() if one.ports == [PUBLISHED]]
    assert host in serving.networks["default"].aliases
    assert port == str(serving.environment["DIT_METRICS_PORT"])
    assert not any(port in each for each in serving.ports)  # for Prometheus alone


@pytest.mark.parametrize("name", SERVING)
def test_container_settings_are_valid_and_fit_the_grace_period(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = compose_services()[name]
    set_here = {key: with_defaults(str(value)) for key, value in container.environment.items()}
    given = image_environment() | set_here
    ours = {key: value for key, value in given.items() if key.startswith("DIT_")}
    assert {key.removeprefix("DIT_").lower() for key in ours} <= set(Settings.model_fields)
    for key, value in ours.items():
        monkeypatch.setenv(key, value)
    settings = read_settings([])
    grace_s = float(container.stop_grace_period.removesuffix("s"))
    assert grace_s > settings.drain_timeout_s + CLOSE_CONNECTIONS_S
    assert settings.allowed_hosts == ("dit",)  # as Prometheus calls it


@pytest.mark.parametrize("name", [*SERVING, *FLEET])
def test_compose_builds_its_images_and_never_pulls_them(name: str) -> None:
    container = compose_services()[name]
    assert container.build is not None
    assert container.pull_policy == "build"
    assert "TORCH_INDEX" in container.build_args()


@pytest.mark.parametrize("name", EVERY)
def test_containers_keep_a_read_only_root_and_no_privileges(name: str) -> None:
    container = compose_services()[name]
    assert container.read_only
    assert container.init
    assert container.cap_drop == ["ALL"]
    assert container.security_opt == ["no-new-privileges:true"]
    path, options = container.tmpfs_options()
    assert path == "/tmp"
    assert any(re.fullmatch(r"size=\d+[gm]", option) for option in options)
    assert ("exec" in options) is (name == "dit")


@pytest.mark.parametrize("name", EVERY)
def test_containers_have_nothing_of_the_host_but_files_to_read(name: str) -> None:
    tree = yaml.safe_load(text_of("docker-compose.yml"))["services"][name]
    assert not {"privileged", "cap_add", "devices", "group_add", "userns_mode"} & tree.keys()
    assert not {"network_mode", "pid", "ipc", "uts", "cgroup", "cgroup_parent"} & tree.keys()
    volumes = yaml.safe_load(text_of("docker-compose.yml"))["volumes"]
    for volume in compose_services()[name].volumes:
        source, _, *options = with_defaults(volume).split(":")
        assert source in volumes or options == ["ro"], volume
        assert "docker.sock" not in source


@pytest.mark.parametrize("name", EVERY)
def test_containers_cannot_fill_the_host(name: str) -> None:
    container = compose_services()[name]
    assert re.fullmatch(r"\d+g", with_defaults(container.mem_limit))
    assert 0 < container.pids_limit <= 4096
    assert container.logging is not None
    assert container.logging.driver == "local"  # json-file would not compress
    assert {"max-size", "max-file"} <= container.logging.options.keys()


def test_prometheus_keeps_data_for_so_long_and_so_much() -> None:
    flags = "\n".join(compose_services()["prometheus"].command)
    assert re.search(r"retention\.time=\d+d", flags)
    assert re.search(r"retention\.size=\d+GB", flags)


@pytest.mark.parametrize("name", EVERY)
def test_ports_are_published_on_loopback(name: str) -> None:
    for port in compose_services()[name].ports:
        assert with_defaults(port).startswith(LOOPBACK)


@pytest.mark.parametrize("name", [*SERVING, *FLEET])
def test_a_wrong_setting_is_not_tried_for_ever(name: str) -> None:
    policy, _, tries = compose_services()[name].restart.partition(":")
    assert policy == "on-failure"
    assert 0 < int(tries) <= 20


def test_images_that_are_not_built_here_are_pinned() -> None:
    for name, container in compose_services().items():
        if container.build is None:
            assert re.search(r":v?\d+\.\d+\.\d+", container.image), name


def test_the_card_is_chosen_by_a_variable() -> None:
    for name in ("dit", "dcgm-exporter"):
        deployed = compose_services()[name].deploy
        assert deployed is not None
        (device,) = deployed.resources.reservations.devices
        assert device.device_ids == ["${DIT_GPU:-0}"]


def test_secrets_come_from_files_that_git_does_not_have() -> None:
    """Without a variable it is an empty file: compose does not start without any."""
    tree = yaml.safe_load(text_of("docker-compose.yml"))
    for name, secret in tree["secrets"].items():
        assert with_defaults(secret["file"]) == "./deploy/no-secret", name
    assert (ROOT / "deploy/no-secret").read_bytes() == b""
    for name, container in compose_services().items():
        assert set(container.secrets) <= tree["secrets"].keys(), name
        assert "HF_TOKEN" not in container.environment, name
        for variable, value in container.environment.items():
            if variable.endswith(("_PATH", "__FILE")) and str(value):
                (secret,) = re.findall(r"/run/secrets/(\w+)", str(value))
                assert secret in container.secrets
    ignored = text_of(".gitignore").splitlines()
    assert {"/dit.env", "/secrets/"} <= set(ignored)


@pytest.mark.parametrize("name", [*SERVING, *FLEET])
def test_api_keys_are_a_secret_and_without_them_the_service_is_on_this_host_alone(
    name: str,
) -> None:
    container = compose_services()[name]
    assert "api_keys" in container.secrets
    given = str(container.environment["DIT_API_KEYS_FILE"])
    assert given == "${API_KEYS_FILE:+/run/secrets/api_keys}"
    assert with_defaults(given) == ""
    assert with_defaults(PUBLISHED).startswith(LOOPBACK)
    secret = yaml.safe_load(text_of("docker-compose.yml"))["secrets"]["api_keys"]["file"]
    assert secret == "${API_KEYS_FILE:-./deploy/no-secret}"
    assert "API_KEYS_FILE" in text_of("docs/operations.md")


def test_the_check_of_the_image_has_the_environment_that_compose_gives() -> None:
    given = compose_environment()
    assert "DIT_API_KEYS_FILE" not in given
    assert not [name for name, value in given.items() if "$" in value or not value]


def test_the_tracked_env_file_holds_the_profile_and_nothing_else() -> None:
    lines = [line for line in text_of(".env").splitlines() if not line.startswith("#")]
    assert lines == ["COMPOSE_PROFILES=gpu"]


def test_every_file_that_is_mounted_exists() -> None:
    volumes = yaml.safe_load(text_of("docker-compose.yml"))["volumes"]
    for container in compose_services().values():
        for source in container.mounts().values():
            assert source in volumes or (ROOT / source).exists(), source


def test_the_owners_models_are_mounted_and_cannot_be_changed() -> None:
    """Without the variable it is an empty folder: compose would make a missing one, as root's."""
    for name in ("dit", "dit-cpu"):
        (mount,) = [each for each in compose_services()[name].volumes if "/models" in each]
        assert mount == "${DIT_MODELS:-./deploy/no-models}:/models:ro"
    assert [each.name for each in (ROOT / "deploy/no-models").iterdir()] == [".gitkeep"]


def test_grafana_finds_its_data_source_and_dashboard() -> None:
    grafana, prometheus = (compose_services()[name] for name in ("grafana", "prometheus"))
    mounts = grafana.mounts()
    provisioning = ROOT / mounts["/etc/grafana/provisioning"]
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    assert prometheus.ports == [f"{LOOPBACK}9090:9090"]
    scraped = yaml.safe_load(text_of("deploy/prometheus.yml"))["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scraped
    (provider,) = yaml.safe_load((provisioning / "dashboards/dit.yml").read_text())["providers"]
    folder = ROOT / mounts[provider["options"]["path"]]
    home = re.findall(
        r"^default_home_dashboard_path = (.+)$", text_of("deploy/grafana/grafana.ini"), re.MULTILINE
    )
    assert [f"{provider['options']['path']}/{each.name}" for each in folder.iterdir()] == home


def test_what_prometheus_scrapes_and_tells_is_in_the_stack() -> None:
    config = yaml.safe_load(text_of("deploy/prometheus.yml"))
    fixed = [*config["scrape_configs"], *config["alerting"]["alertmanagers"]]
    targets = [
        target
        for each in fixed
        for one in each.get("static_configs", [])
        for target in one["targets"]
    ]
    found = [each for one in config["scrape_configs"] for each in one.get("dns_sd_configs", [])]
    hosts = {target.partition(":")[0] for target in targets} | {
        name for each in found for name in each["names"]
    }
    assert hosts == {"dit", "localhost", "alertmanager", "dcgm-exporter"}
    assert hosts - {"dit", "localhost"} <= compose_services().keys()
