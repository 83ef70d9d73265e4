"""The Dockerfile and the lock of its packages."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.image_check import __main__ as image_check
from deploy.image_check import base
from deploy.lock.__main__ import BUILD, CUDA, entries, requirements
from tests.ops.stack.files import (
    ROOT,
    compose_services,
    dockerfile,
    image_environment,
    stages,
    text_of,
)


def test_the_health_check_finds_the_address_in_the_writable_folder() -> None:
    folder, _ = compose_services()["dit"].tmpfs_options()
    assert str(Path(image_environment()["DIT_ADDRESS_FILE"]).parent) == folder


def test_hub_downloads_go_to_the_volume() -> None:
    assert compose_services()["dit"].mounts()[image_environment()["HF_HOME"]] == "huggingface"


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
    (owned,) = re.findall(r"install --directory --owner=dit --group=dit +(.+)", made)
    on_import = environment["TORCHINDUCTOR_CACHE_DIR"]  # a read-only root must have it already
    assert set(owned.split()) == {folder, on_import, environment["HF_HOME"]}


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


def locked() -> dict[str, str]:
    return {
        name: lines
        for part in ("base", "cuda", "ray")
        for name, lines in entries(text_of(f"deploy/lock/{part}.txt")).items()
    }


def test_every_package_of_the_image_is_locked_by_hash() -> None:
    packages = locked()
    needed = {canonicalize_name(Requirement(line).name) for line in requirements("ray")}
    assert needed <= packages.keys()
    for name, lines in packages.items():
        assert "--hash=sha256:" in lines, name
    assert {"nvidia-cublas", "triton"} <= packages.keys()
    assert Requirement(BUILD[0]).name in packages


def test_the_lock_has_the_versions_that_the_project_is_tested_with() -> None:
    lines = [line for line in text_of("constraints.txt").splitlines() if not line.startswith("#")]
    tested: dict[str, str] = {
        canonicalize_name(pin.name): str(pin.specifier) for pin in map(Requirement, lines)
    }
    for name, text in locked().items():
        version = text.partition(" ")[0].removeprefix(name)
        assert tested.get(name, version) == version, name
        assert name in tested or CUDA.fullmatch(name), name


def test_cuda_is_apart_in_the_lock() -> None:
    assert all(CUDA.fullmatch(name) for name in entries(text_of("deploy/lock/cuda.txt")))
    assert not any(CUDA.fullmatch(name) for name in entries(text_of("deploy/lock/base.txt")))


def test_ray_is_apart_in_the_lock_and_in_images_that_ask_for_it() -> None:
    others = entries(text_of("deploy/lock/base.txt")) | entries(text_of("deploy/lock/cuda.txt"))
    ray = entries(text_of("deploy/lock/ray.txt"))
    assert "ray" in ray
    assert not ray.keys() & others.keys()
    assert ("ARG", 'RAY=""') in stages()[0]
    (install,) = [rest for word, rest in stages()[0] if word == "RUN" and "lock/ray.txt" in rest]
    assert 'if [ -n "$RAY" ]; then' in install


def test_pypi_gives_the_image_nothing_without_a_hash() -> None:
    installs = [
        command
        for word, rest in stages()[0]
        if word == "RUN"
        for command in re.findall(r"pip install ([^&;]+)", rest)
    ]
    assert len(installs) == 6
    for command in installs:
        hashed = "--require-hashes" in command
        ours = command.split()[-1] == "." and {"--no-deps", "--no-build-isolation"} <= set(
            command.split()
        )
        other_torch = command.split()[-1] in ("torch", '"$TORCH_INDEX"')
        assert hashed or ours or other_torch, command


def test_what_nothing_uses_is_taken_out_of_the_image() -> None:
    runs = " ".join(rest for word, rest in stages()[0] if word == "RUN")
    for what in ("$torch/test", "torch_shm_manager", "$torch/include", "uninstall --yes pip"):
        assert what in runs
    assert "PYTHONDONTWRITEBYTECODE" not in text_of("Dockerfile")
    assert "__pycache__" not in runs


def test_the_base_image_is_pinned() -> None:
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base.named_in(text_of("Dockerfile")))


@pytest.mark.parametrize(
    ("user", "path", "reason"),
    [(1000, "", "it needs root"), (0, "", "buildah, unshare, nsenter, setpriv, chroot not found")],
)
def test_an_image_that_cannot_be_built_here_is_skipped_with_a_reason(
    user: int,
    path: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setenv("PATH", path)
    monkeypatch.setattr(sys, "argv", ["image_check"])
    assert image_check.main() == 0
    assert capsys.readouterr().out.startswith(f"image-check: skipped: {reason}")
