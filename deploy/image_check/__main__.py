"""Build the image for CPUs with buildah, run it as compose would, and try it.

make image-check; exits with 0 if everything holds or if it cannot be tried here, and says which.
ARGS=--ray builds the image with Ray Serve, and also tries a fleet in it.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import yaml

from bench.load.processes import free_port
from deploy.image_check import fleet
from deploy.image_check.base import Base, NoBase, base_of, named_in
from deploy.image_check.buildah import Buildah, ImageConfig, missing
from deploy.image_check.checkpoint import NAMES, write_checkpoint
from deploy.image_check.container import Container

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "image-check"
IMAGE = "localhost/dit-service:check"
READY_S = 600.0
STOP_S = 90.0
LONG = {"class_label": 0, "seed": 1, "num_images": 4, "num_sampling_steps": 100}
SHORT = {"class_label": 0, "seed": 1, "num_sampling_steps": 20}


class Findings:
    """What was tried, and what did not hold."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def check(self, what: str, holds: bool, detail: str = "") -> None:
        """Print one line, and remember a failure."""
        print(f"  {'ok    ' if holds else 'FAILED'} {what}{f': {detail}' if detail else ''}")
        if not holds:
            self.failed.append(what)


def build(buildah: Buildah, base: Base, ray: str = "") -> float:
    """Build the Dockerfile with the arguments of compose's service for CPUs; the seconds it took.

    Args:
        ray: not empty for Ray Serve in the image.
    """
    began = time.monotonic()
    arguments = {"PYTHON_IMAGE": base.image, "TORCH_INDEX": base.torch_index, "COMPILER": ""}
    arguments["RAY"] = ray
    buildah.run(
        "build",
        *["--isolation", "chroot", "--network", "host", "--format", "docker", "--tag", IMAGE],
        *["--ignorefile", str(ROOT / ".dockerignore"), "--pull-never"],
        *[f"--build-arg={name}={value}" for name, value in arguments.items()],
        *[f"--volume={source}:{target}:ro" for source, target in base.volumes.items()],
        str(ROOT),
    )
    return time.monotonic() - began


def compose_environment() -> dict[str, str]:
    """The variables that compose gives the service for CPUs."""
    tree = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    given = tree["services"]["dit-cpu"]["environment"]
    texts = {name: "" if value is None else str(value) for name, value in given.items()}
    filled = {
        name: re.sub(r"\$\{\w+(?::-([^}]*)|:\+[^}]*)?\}", r"\1", text)
        for name, text in texts.items()
    }
    return {name: text for name, text in filled.items() if text}


def generate(url: str, order: Mapping[str, object]) -> tuple[int, bytes]:
    """POST /generate; the status and the body."""
    body = json.dumps(order).encode()
    request = urllib.request.Request(f"{url}/generate", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=STOP_S) as answer:
        return answer.status, answer.read()


def wait_until_admitted(metrics_url: str) -> None:
    """Until the service has a request to work on."""
    ends = time.monotonic() + STOP_S
    while time.monotonic() < ends:
        with urllib.request.urlopen(metrics_url, timeout=STOP_S) as answer:
            text = answer.read().decode()
        if any(
            float(each) > 0
            for each in re.findall(r"^dit_row_steps_waiting (\S+)", text, re.MULTILINE)
        ):
            return
        time.sleep(0.05)


@contextmanager
def running(
    root: Path,
    config: ImageConfig,
    log: Path,
    environment: Mapping[str, str],
    mounts: Mapping[str, Path] = MappingProxyType({}),
    alone: bool = False,
) -> Iterator[Container]:
    """A container, killed at the end of the block if it still runs."""
    container = Container(
        root, config, compose_environment() | dict(environment), log, mounts, alone
    )
    try:
        yield container
    finally:
        container.kill()


def check_service(root: Path, config: ImageConfig, findings: Findings) -> None:
    """Health, an image, what the process may do, and a stop under load."""
    port, metrics_port, log = free_port(), free_port(), FOLDER / "service.log"
    url = f"http://127.0.0.1:{port}"
    ports = {"DIT_PORT": str(port), "DIT_METRICS_PORT": str(metrics_port)}
    with running(root, config, log, ports) as container:
        seconds = container.wait_healthy(READY_S)
        findings.check("the health check passes", True, f"after {seconds:.1f} s")
        status, body = generate(url, SHORT)
        findings.check("POST /generate", status == 200 and body[:4] == b"\x89PNG", f"{status}")
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics") as answer:
            findings.check("/metrics on its own port", b"dit_ready 1.0" in answer.read())
        process = container.status()
        user = config.user.partition(":")[0]
        findings.check("runs as its own user", process["Uid"].split() == [user] * 4, user)
        rights = [process[name] for name in ("CapEff", "CapPrm", "CapBnd")]
        findings.check("has no capabilities", not any(int(each, 16) for each in rights))
        findings.check("cannot gain any", process["NoNewPrivs"] == "1")
        written = (
            container.exec(["touch", "/home/dit/file"]),
            container.exec(["touch", "/tmp/file"]),
        )
        findings.check("writes to /tmp and nowhere else", written[0] != 0 and written[1] == 0)
        answers: list[tuple[int, bytes]] = []
        client = threading.Thread(target=lambda: answers.append(generate(url, LONG)))
        client.start()
        wait_until_admitted(f"http://127.0.0.1:{metrics_port}/metrics")
        code = container.stop(STOP_S)
        client.join(STOP_S)
        statuses = [status for status, _ in answers]
        findings.check("SIGTERM: what was admitted is answered", statuses == [200], f"{statuses}")
        findings.check("SIGTERM: exit code 0", code == 0, f"{code}")
        print(f"  peak memory {int(process['VmHWM'].split()[0]) / 1024:.0f} MiB before the stop")
    lines = log.read_text(encoding="utf-8").splitlines()
    findings.check("every log line is a JSON object", all(is_object(line) for line in lines))


def is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def check_wrong_setting(root: Path, config: ImageConfig, findings: Findings) -> None:
    """Exit code 2, after which compose's `on-failure` gives up."""
    with running(root, config, FOLDER / "wrong.log", {"DIT_PORT": "http"}) as container:
        code = container.wait(READY_S)
    findings.check("a wrong setting ends the start", code == 2, f"exit code {code}")


def check_own_checkpoint(root: Path, config: ImageConfig, findings: Findings) -> None:
    """A checkpoint, its autoencoder and names from a folder of the host, mounted at /models."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    models = FOLDER / "models"
    shutil.rmtree(models, ignore_errors=True)
    settings = write_checkpoint(models) | {"DIT_PORT": str(port)}
    with running(root, config, FOLDER / "own.log", settings, {"/models": models}) as container:
        container.wait_healthy(READY_S)
        status, body = generate(url, SHORT | {"class_label": NAMES[1]})
        drawn = status == 200 and body[:4] == b"\x89PNG"
        findings.check("a checkpoint from /models is served by its own names", drawn, f"{status}")
        findings.check("/models cannot be written to", container.exec(["touch", "/models/x"]) != 0)
        container.stop(STOP_S)


def check_fleet(root: Path, config: ImageConfig, findings: Findings) -> None:
    """A head with one replica, on a read-only root: it serves a picture, and Ray asks for its token."""
    mounts, ray = fleet.write_files(FOLDER / "fleet"), fleet.head(config)
    log, variables = FOLDER / "fleet.log", fleet.environment()
    # As every container engine gives to its containers.
    hosts = f"127.0.0.1 localhost {socket.gethostname()}\n"
    (root / "etc/hosts").write_text(hosts, encoding="ascii")
    with running(root, ray, log, variables, mounts, alone=True) as container:
        seconds = container.wait_healthy(READY_S)
        findings.check("a fleet on Ray is ready", True, f"after {seconds:.1f} s")
        status, _, body = ask(container, "http://127.0.0.1:8000/generate", SHORT)
        drawn = status == b"200" and body[:4] == b"\x89PNG"
        findings.check("POST /generate through Ray", drawn, status.decode())
        status, *_ = ask(container, "http://127.0.0.1:8265/api/serve/applications/")
        findings.check("Ray asks for its token", status == b"401", status.decode())
        findings.check("the root is read-only", container.exec(["touch", "/home/dit/file"]) != 0)
        print(f"  SIGTERM: exit code {container.stop(STOP_S)}")


def ask(
    container: Container, url: str, body: Mapping[str, object] | None = None
) -> tuple[bytes, bytes, bytes]:
    """Ask from inside: the status, a space, and the body."""
    return container.run(fleet.asking(url, body)).stdout.partition(b" ")


def size_of(root: Path) -> str:
    done = subprocess.run(["du", "-sh", str(root)], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.split()[0]


def try_image(buildah: Buildah, ray: bool) -> int:
    """Build and try, a fleet as well with ``ray``; the exit code."""
    base = base_of(buildah, named_in((ROOT / "Dockerfile").read_text(encoding="utf-8")))
    if base.note:
        print(f"image-check: {base.note}")
    print(f"image-check: built in {build(buildah, base, '1' if ray else ''):.0f} s")
    findings, config = Findings(), buildah.config(IMAGE)
    root = buildah.unpack(IMAGE)
    service = root / "opt/dit"
    print(f"  size: {size_of(root)}, of which the service's environment {size_of(service)}")
    check_service(root, config, findings)
    check_wrong_setting(root, config, findings)
    check_own_checkpoint(root, config, findings)
    if ray:
        check_fleet(root, config, findings)
    return 1 if findings.failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the container image and try it.")
    parser.add_argument("--keep", action="store_true", help="keep what was built")
    parser.add_argument("--ray", action="store_true", help="with Ray Serve, and try a fleet")
    options = parser.parse_args()
    reason = missing()
    if reason is not None:
        print(f"image-check: skipped: {reason}")
        return 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    buildah = Buildah(FOLDER)
    try:
        return try_image(buildah, options.ray)
    except NoBase as error:
        print(f"image-check: skipped: {error}")
        return 0
    finally:
        if not options.keep:
            buildah.close()
            shutil.rmtree(FOLDER, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
