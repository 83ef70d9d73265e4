"""Packaging: the files around the code match it and each other."""

from __future__ import annotations

import glob
import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import BaseModel

import service
from bench.check.__main__ import STEPS
from service.http.middleware.observation import OUTCOMES
from service.http.server import CLOSE_CONNECTIONS_S
from service.metrics import Metrics
from service.settings import Settings, read_settings

ROOT = Path(__file__).parents[2]
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "info": ["_info"]}

PUBLISHED = "${DIT_BIND:-127.0.0.1}:8000:8000"
"""The service's port: on the host's loopback, unless the user says otherwise."""

CODE = re.DOTALL | re.MULTILINE


class Device(BaseModel):
    driver: str
    capabilities: list[str]


class Reservations(BaseModel):
    devices: list[Device] = []


class Resources(BaseModel):
    reservations: Reservations


class Deploy(BaseModel):
    resources: Resources


class Build(BaseModel):
    args: dict[str, str] = {}


class Network(BaseModel):
    aliases: list[str] = []


class ComposeService(BaseModel):
    """The fields of a compose service that the tests use."""

    profiles: list[str] = []
    environment: dict[str, str | int | None] = {}
    ports: list[str] = []
    volumes: list[str] = []
    networks: dict[str, Network] = {}
    stop_grace_period: str = "10s"
    read_only: bool = False
    tmpfs: str = ""
    cap_drop: list[str] = []
    security_opt: list[str] = []
    build: str | Build | None = None
    pull_policy: str = "missing"
    deploy: Deploy | None = None

    @property
    def reserves_gpu(self) -> bool:
        devices = self.deploy.resources.reservations.devices if self.deploy else []
        return any("gpu" in device.capabilities for device in devices)

    def mounts(self) -> dict[str, str]:
        """Volumes and bind mounts: source by target."""
        pairs = [volume.split(":") for volume in self.volumes]
        return {target: source for source, target, *_ in pairs}

    def build_args(self) -> dict[str, str]:
        return self.build.args if isinstance(self.build, Build) else {}

    def tmpfs_options(self) -> tuple[str, set[str]]:
        """Where the writable folder in memory is, and its mount options."""
        path, _, options = self.tmpfs.partition(":")
        return path, set(options.split(","))


def text_of(path: str | Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def with_defaults(text: str) -> str:
    """What compose makes of a value where no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def compose_services() -> dict[str, ComposeService]:
    tree = yaml.safe_load(text_of("docker-compose.yml"))
    return {name: ComposeService.model_validate(body) for name, body in tree["services"].items()}


def started(profile: str | None) -> dict[str, ComposeService]:
    """What `docker compose [--profile PROFILE] up` starts; the option overrides .env."""
    chosen = re.findall(r"^COMPOSE_PROFILES=(\w+)$", text_of(".env"), re.MULTILINE)
    active = {profile} if profile else set(chosen)
    every = compose_services().items()
    return {name: one for name, one in every if not one.profiles or active & set(one.profiles)}


def dockerfile() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile's last stage, with their arguments."""
    text = re.sub(r"^#.*\n", "", text_of("Dockerfile"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    pairs = [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]
    last = max(index for index, (word, _) in enumerate(pairs) if word == "FROM")
    return pairs[last:]


def image_environment() -> dict[str, str]:
    settings = " ".join(rest for word, rest in dockerfile() if word == "ENV")
    return {name: value.strip('"') for name, value in re.findall(r"(\w+)=(\S+)", settings)}


def pyproject(folder: str = ".") -> dict[str, dict[str, object]]:
    with (ROOT / folder / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


@pytest.mark.parametrize(("profile", "on_gpu"), [(None, True), ("cpu", False)])
def test_compose_starts_one_service_and_prometheus(profile: str | None, on_gpu: bool) -> None:
    running = started(profile)
    serving = [one for one in running.values() if one.ports == [PUBLISHED]]
    assert len(serving) == 1
    assert len(running) == 2
    assert serving[0].reserves_gpu is on_gpu


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
    assert port == image_environment()["DIT_PORT"]


@pytest.mark.parametrize("name", ["dit", "dit-cpu"])
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


@pytest.mark.parametrize("name", ["dit", "dit-cpu"])
def test_compose_builds_its_images_and_never_pulls_them(name: str) -> None:
    container = compose_services()[name]
    assert container.build is not None
    assert container.pull_policy == "build"
    assert "TORCH_INDEX" in container.build_args()


def test_the_health_check_finds_the_address_in_the_writable_folder() -> None:
    folder, _ = compose_services()["dit"].tmpfs_options()
    assert str(Path(image_environment()["DIT_ADDRESS_FILE"]).parent) == folder


def test_hub_downloads_go_to_the_volume() -> None:
    assert compose_services()["dit"].mounts()[image_environment()["HF_HOME"]] == "huggingface"


@pytest.mark.parametrize("name", ["dit", "dit-cpu"])
def test_containers_keep_a_read_only_root_and_no_privileges(name: str) -> None:
    container = compose_services()[name]
    assert container.read_only
    assert container.cap_drop == ["ALL"]
    assert container.security_opt == ["no-new-privileges:true"]
    path, options = container.tmpfs_options()
    assert path == "/tmp"
    assert any(re.fullmatch(r"size=\d+g", option) for option in options)
    assert ("exec" in options) is container.reserves_gpu


def test_the_compiler_is_in_the_image_for_gpus_alone() -> None:
    stage = dockerfile()
    assert ("ARG", "COMPILER=gcc") in stage
    (install,) = [rest for word, rest in stage if word == "RUN" and "apt-get install" in rest]
    assert install.startswith('if [ "$COMPILER" = gcc ]; then')
    (packages,) = re.findall(r"apt-get install(?: --\S+)* ([^&;]+?) *&&", install)
    assert packages.split() == ["gcc", "libc6-dev"]
    services = compose_services()
    assert "COMPILER" not in services["dit"].build_args()
    assert services["dit-cpu"].build_args()["COMPILER"] == ""


def test_compiled_kernels_go_to_a_volume_that_belongs_to_the_user() -> None:
    environment = image_environment()
    caches = [
        environment[name]
        for name in ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "CUDA_CACHE_PATH")
    ]
    mounts = compose_services()["dit"].mounts()
    (folder,) = {str(Path(cache).parent) for cache in caches}
    assert len(set(caches)) == len(caches)
    volumes = yaml.safe_load(text_of("docker-compose.yml"))["volumes"]
    assert mounts[folder] in volumes
    made = " ".join(rest for word, rest in dockerfile() if word == "RUN")
    (owned,) = re.findall(r"install --directory --owner=dit --group=dit (.+)", made)
    assert set(owned.split()) == {folder, environment["HF_HOME"]}


def test_the_driver_lends_the_image_computing_and_nvidia_smi() -> None:
    assert image_environment()["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"


def test_image_runs_unprivileged_and_takes_signals() -> None:
    stage = dict(dockerfile())
    user, _, group = stage["USER"].partition(":")
    assert int(user) > 0  # a number: an orchestrator cannot resolve a name in the image
    assert int(group) > 0
    assert json.loads(stage["ENTRYPOINT"])[-2:] == [
        "-m",
        "service",
    ]  # no shell, which would not forward signals
    command = json.loads(stage["HEALTHCHECK"].partition("CMD")[2])
    copied = {rest.split()[-1]: rest for word, rest in dockerfile() if word == "COPY"}
    assert copied[command[1]].startswith("--chmod=0644 ")  # whatever the checkout's umask


def test_dockerignore_admits_what_the_dockerfile_copies() -> None:
    admitted = {line.removeprefix("!") for line in text_of(".dockerignore").splitlines()}
    copies = re.findall(
        r"^COPY (?!--from)(?:--\S+ )*(.+) \S+$", text_of("Dockerfile"), re.MULTILINE
    )
    sources = {source for copy in copies for source in copy.split()}
    assert sources <= admitted
    assert all((ROOT / source).exists() for source in sources)


@pytest.mark.parametrize("package", ["model", "service"])
def test_data_files_go_into_the_wheel(package: str) -> None:
    setuptools = pyproject()["tool"]["setuptools"]
    assert isinstance(setuptools, dict)
    folder = ROOT / package
    packaged = {
        found
        for pattern in setuptools["package-data"].get(package, [])
        for found in glob.glob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207 (as setuptools)
    }
    files = {
        path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    data = {str(path.relative_to(folder)) for path in files if path.suffix != ".py"}
    assert data <= packaged


def test_every_dependency_is_pinned_within_its_range() -> None:
    tree = pyproject()
    declared = [
        *_strings(tree["project"]["dependencies"]),
        *_strings(tree["dependency-groups"]["dev"]),
        *_strings(tree["dependency-groups"]["gpu"]),
        *_strings(tree["dependency-groups"]["bench"]),
        *_strings(tree["dependency-groups"]["browser"]),
        *_strings(pyproject("client")["project"]["dependencies"]),
    ]
    lines = text_of("constraints.txt").splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    versions = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}
    assert not [
        version for version in versions.values() if "+" in version
    ]  # a local version, which other machines cannot install
    for requirement in map(Requirement, declared):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)])


def test_the_client_needs_no_torch() -> None:
    declared = _strings(pyproject("client")["project"]["dependencies"])
    needed = needed_by({Requirement(line).name for line in declared})
    assert "httpx" in needed
    assert not needed & {"torch", "numpy", "fastapi", "pydantic"}


def test_the_client_has_the_licence() -> None:
    assert text_of("client/LICENSE") == text_of("LICENSE")


def _strings(value: object) -> list[str]:
    assert isinstance(value, list)
    return [str(item) for item in value]


def test_version_is_the_same_everywhere() -> None:
    assert pyproject()["project"]["version"] == service.__version__
    assert f"\n## {service.__version__}" in text_of("CHANGELOG.md")


def test_make_targets_named_in_the_docs_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    for document in (ROOT / "README.md", *ROOT.glob("docs/*.md")):
        code = re.findall(r"```.*?```|`[^`\n]+`|^    [^\n]*", text_of(document), CODE)
        named = set(re.findall(r"(?<!install )\bmake ([a-z][a-z-]*)", "\n".join(code)))
        assert named <= targets, document.name


def test_alerts_name_metrics_and_outcomes_that_exist() -> None:
    families = list(Metrics().registry.collect())
    exported = {one.name + suffix for one in families for suffix in SUFFIXES.get(one.type, [""])}
    outcomes = {one.labels.get("outcome") for family in families for one in family.samples}
    groups = yaml.safe_load(text_of("deploy/alerts.yml"))["groups"]
    rules = "\n".join(rule["expr"] for group in groups for rule in group["rules"])
    assert set(re.findall(r"\bdit_\w+", rules)) <= exported
    named = {
        word for match in re.findall(r'outcome=~?"([^"]+)"', rules) for word in match.split("|")
    }
    assert named <= outcomes | set(OUTCOMES.values())


def test_the_alert_tests_name_the_rules() -> None:
    (rules,) = yaml.safe_load(text_of("tests/ops/alerts.promtool.yml"))["rule_files"]
    assert (ROOT / "tests/ops" / rules).samefile(ROOT / "deploy/alerts.yml")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs Prometheus's promtool")
@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "config", "deploy/prometheus.yml"],
        ["test", "rules", "tests/ops/alerts.promtool.yml"],
    ],
)
def test_promtool_accepts(arguments: list[str]) -> None:
    done = subprocess.run(
        ["promtool", *arguments], check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_steps_of_the_gpu_check_are_documented() -> None:
    listed = ", ".join(f"`{name}`" for name in STEPS)
    assert f"{listed} " in " ".join(text_of("docs/operations.md").split())
    words = [*list(STEPS)[:-2], " or ".join(list(STEPS)[-2:])]
    assert f"STEP={', '.join(words)} " in text_of("Makefile")


def test_wheels_for_a_gpu_host_leave_out_torch() -> None:
    recipe = text_of("Makefile").partition("define list-gpu-requirements\n")[2]
    command = recipe.partition("\nendef")[0].replace("$(BIN)/python", sys.executable)
    done = subprocess.run(
        ["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = {Requirement(line).name for line in done.stdout.splitlines()}
    declared = {Requirement(line).name for line in _strings(pyproject()["project"]["dependencies"])}
    assert declared - names == {"torch"}
    assert {"pytest", "httpx"} <= names
    assert "torch" not in needed_by(names)


def needed_by(names: set[str]) -> set[str]:
    """The packages that these need, and those need in turn."""
    found: set[str] = set()
    waiting = {canonicalize_name(name) for name in names}
    while waiting:
        name = waiting.pop()
        found.add(name)
        lines = metadata.requires(name) or []
        needs = [
            one
            for one in map(Requirement, lines)
            if one.marker is None or one.marker.evaluate({"extra": ""})
        ]
        waiting |= {canonicalize_name(one.name) for one in needs} - found
    return found
