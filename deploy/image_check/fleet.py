"""Fleet: a Ray head in the image, with one replica of the bundled model, as compose's profile `ray` has it."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import yaml
from pydantic import BaseModel

from deploy.image_check.buildah import ImageConfig

ROOT = Path(__file__).parents[2]
PLACE = "/etc/dit/ray"
TOKEN = "/etc/dit/token"
ASK = """
import sys, urllib.error, urllib.request
body = sys.argv[2].encode() or None
request = urllib.request.Request(sys.argv[1], body, {"Content-Type": "application/json"})
try:
    with urllib.request.urlopen(request, timeout=120) as answer:
        status, received = answer.status, answer.read()
except urllib.error.HTTPError as error:
    status, received = error.code, b""
sys.stdout.buffer.write(str(status).encode() + b" " + received)
"""
"""Asks for a URL, from inside the container, and writes the status and the body."""


def write_files(folder: Path) -> dict[str, Path]:
    """The head's script, configuration and token; what is to be mounted where."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "deploy" / "ray", folder / "ray")
    file = folder / "ray" / "serve.yaml"
    tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    for model in tree["applications"][0]["args"]["models"]:
        model["num_replicas"] = 1
    file.write_text(yaml.safe_dump(tree), encoding="utf-8")
    (folder / "token").mkdir()
    (folder / "token" / "token").write_text(secrets.token_hex(32), encoding="utf-8")
    return {PLACE: folder / "ray", TOKEN: folder / "token"}


def head(config: ImageConfig) -> ImageConfig:
    """The image with compose's command for the head, and processors for the front and the replica."""
    service = _service()
    options = [each.replace("num-cpus=0", "num-cpus=2") for each in service.command]
    return replace(config, entrypoint=[*service.entrypoint, *options])


def environment() -> dict[str, str]:
    """The variables of compose's head, with the token where it is mounted here."""
    given = {name: str(value) for name, value in _service().environment.items()}
    fixed = {name: value for name, value in given.items() if "${" not in value}
    return fixed | {"RAY_AUTH_TOKEN_PATH": f"{TOKEN}/token"}


def asking(url: str, body: Mapping[str, object] | None = None) -> list[str]:
    """The command that asks for a URL, with POST if there is a body."""
    return ["/opt/dit/bin/python", "-c", ASK, url, "" if body is None else json.dumps(body)]


class HeadService(BaseModel):
    """What compose says of the head."""

    entrypoint: list[str]
    command: list[str]
    environment: dict[str, str]


def _service() -> HeadService:
    tree = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return HeadService.model_validate(tree["services"]["ray-head"])
