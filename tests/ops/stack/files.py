"""The files of the stack, as Docker and compose read them."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from pydantic import BaseModel

ROOT = Path(__file__).parents[3]

LOOPBACK = "127.0.0.1:"
PUBLISHED = "${DIT_BIND:-127.0.0.1}:8000:8000"
"""The service's port: on the host's loopback, unless the user says otherwise."""


class Device(BaseModel):
    driver: str
    capabilities: list[str]
    device_ids: list[str] = []


class Reservations(BaseModel):
    devices: list[Device] = []


class Resources(BaseModel):
    reservations: Reservations


class Deploy(BaseModel):
    resources: Resources = Resources(reservations=Reservations())
    replicas: str = "1"


class Build(BaseModel):
    args: dict[str, str] = {}


class Network(BaseModel):
    aliases: list[str] = []


class Logging(BaseModel):
    driver: str
    options: dict[str, str]


class ComposeService(BaseModel):
    """The fields of a compose service that the tests use."""

    image: str
    profiles: list[str] = []
    environment: dict[str, str | int | None] = {}
    ports: list[str] = []
    volumes: list[str] = []
    secrets: list[str] = []
    networks: dict[str, Network] = {}
    entrypoint: list[str] = []
    command: list[str] = []
    depends_on: list[str] = []
    shm_size: str = ""
    stop_grace_period: str = "10s"
    restart: str = "no"
    init: bool = False
    read_only: bool = False
    tmpfs: str = ""
    cap_drop: list[str] = []
    security_opt: list[str] = []
    pids_limit: int = 0
    mem_limit: str = ""
    logging: Logging | None = None
    build: Build | None = None
    pull_policy: str = "missing"
    deploy: Deploy | None = None

    @property
    def reserves_gpu(self) -> bool:
        devices = self.deploy.resources.reservations.devices if self.deploy else []
        return any("gpu" in device.capabilities for device in devices)

    def mounts(self) -> dict[str, str]:
        """Volumes and bind mounts: source by target."""
        pairs = [with_defaults(volume).split(":") for volume in self.volumes]
        return {target: source for source, target, *_ in pairs}

    def build_args(self) -> dict[str, str]:
        return self.build.args if self.build is not None else {}

    def tmpfs_options(self) -> tuple[str, set[str]]:
        """Where the writable folder in memory is, and its mount options."""
        path, _, options = self.tmpfs.partition(":")
        return path, set(options.split(","))


def text_of(path: str | Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def with_defaults(text: str) -> str:
    """What compose makes of a value where no variable is set."""
    return re.sub(
        r"\$\{\w+:[-+]([^}]*)\}", lambda found: found[1] if ":-" in found[0] else "", text
    )


def compose_services() -> dict[str, ComposeService]:
    tree = yaml.safe_load(text_of("docker-compose.yml"))
    return {name: ComposeService.model_validate(body) for name, body in tree["services"].items()}


def started(profile: str | None) -> dict[str, ComposeService]:
    """What `docker compose [--profile PROFILE] up` starts; the option overrides .env."""
    chosen = re.findall(r"^COMPOSE_PROFILES=(\w+)$", text_of(".env"), re.MULTILINE)
    active = {profile} if profile else set(chosen)
    every = compose_services().items()
    return {name: one for name, one in every if not one.profiles or active & set(one.profiles)}


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage of the Dockerfile, with their arguments."""
    text = re.sub(r"^#.*\n", "", text_of("Dockerfile"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    pairs = [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]
    begins = [index for index, (word, _) in enumerate(pairs) if word == "FROM"]
    return [pairs[begin:end] for begin, end in zip(begins, [*begins[1:], None])]


def dockerfile() -> list[tuple[str, str]]:
    """The instructions of the image itself."""
    return stages()[-1]


def image_environment() -> dict[str, str]:
    settings = " ".join(rest for word, rest in dockerfile() if word == "ENV")
    return {name: value.strip('"') for name, value in re.findall(r"(\w+)=(\S+)", settings)}
