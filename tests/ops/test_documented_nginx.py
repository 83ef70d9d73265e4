"""nginx in front of a real service, with the configuration in docs/operations.md."""

from __future__ import annotations

import base64
import datetime
import hashlib
import ipaddress
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.settings import read_settings
from service.tracing.spans import Tracing
from tests.support.processes import free_port
from tests.support.requests import PICTURE, read_events
from tests.support.services import (
    PATIENCE_S,
    GatedRunner,
    Running,
    load_small_checkpoint,
    running_service,
    wait_until,
)

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
NAME = "dit.example.org"
USER = ("me", "secret")

pytestmark = pytest.mark.skipif(NGINX is None, reason="needs nginx: apt-get install nginx-light")


def documented() -> str:
    """The block under "Behind a proxy" that begins with an upstream."""
    text = (
        PAGE.read_text(encoding="utf-8").partition("\n## Behind a proxy\n")[2].partition("\n## ")[0]
    )
    (block,) = re.findall(r"^    upstream dit \{\n(?:    .*\n|\n)+", text, re.MULTILINE)
    return str(block)


def documented_settings() -> dict[str, str]:
    """The service's variables that the page gives along with it."""
    text = PAGE.read_text(encoding="utf-8")
    return dict(re.findall(r"`(DIT_(?:TRUSTED_PROXIES|ALLOWED_HOSTS))=(\S+?)`", text))


def write_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName(NAME), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    (folder / "dit.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "dit.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )


def write_configuration(folder: Path, port: int, service_port: int) -> Path:
    """The documented one, with this machine's ports and files, in what Debian puts around it."""
    name, password = USER
    digest = base64.b64encode(hashlib.sha1(password.encode()).digest()).decode()
    (folder / "dit.htpasswd").write_text(f"{name}:{{SHA}}{digest}\n")
    block = documented()
    for theirs, ours in (
        ("127.0.0.1:8000", f"127.0.0.1:{service_port}"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/dit.pem", str(folder / "dit.pem")),
        ("/etc/ssl/dit.key", str(folder / "dit.key")),
        ("/etc/nginx/dit.htpasswd", str(folder / "dit.htpasswd")),
    ):
        assert block.count(theirs) == 1, theirs
        block = block.replace(theirs, ours)
    places = "".join(
        f"{each}_temp_path {folder / each};\n"
        for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = folder / "nginx.conf"
    file.write_text(
        f"daemon off; user root; worker_processes 1; pid {folder}/pid; error_log stderr;\n"
        f"events {{}}\nhttp {{\ngzip on; access_log off;\n{places}{block}\n}}\n"
    )
    return file


@contextmanager
def behind_nginx(folder: Path, running: Running) -> Iterator[httpx.Client]:
    """A client of nginx in front of a service."""
    write_certificate(folder)
    port = free_port()
    file = write_configuration(folder, port, httpx.URL(running.url).port or 0)
    assert NGINX is not None
    nginx = subprocess.Popen([NGINX, "-c", str(file), "-p", str(folder), "-e", "stderr"])
    context = ssl.create_default_context(cafile=str(folder / "dit.pem"))
    try:
        with httpx.Client(
            base_url=f"https://127.0.0.1:{port}",
            headers={"Host": NAME},
            verify=context,
            auth=USER,
            timeout=PATIENCE_S,
            trust_env=False,
        ) as client:
            wait_until(lambda: answers(client))
            yield client
    finally:
        nginx.terminate()
        nginx.wait(PATIENCE_S)


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/livez").status_code == 200
    except httpx.ConnectError:
        return False


@pytest.fixture(scope="module")
def runner(pipeline_folder: Path) -> GatedRunner:
    return GatedRunner(load_small_checkpoint(pipeline_folder))


@pytest.fixture(scope="module")
def memory() -> InMemorySpanExporter:
    """What the service says of its requests."""
    return InMemorySpanExporter()


@pytest.fixture(scope="module")
def proxied(
    runner: GatedRunner, memory: InMemorySpanExporter, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[httpx.Client, Running]]:
    """A service with the documented settings behind nginx with the documented configuration."""
    given = documented_settings()
    flags = [f"--{name[4:].lower().replace('_', '-')}={value}" for name, value in given.items()]
    settings = read_settings(flags)
    with (
        running_service(
            lambda: runner,
            trusted_proxies=settings.trusted_proxies,
            allowed_hosts=settings.allowed_hosts,
            tracing=Tracing(SimpleSpanProcessor(memory)),
        ) as running,
        behind_nginx(tmp_path_factory.mktemp("nginx"), running) as client,
    ):
        yield client, running


def test_pictures_come_through(proxied: tuple[httpx.Client, Running]) -> None:
    client, _ = proxied
    answer = client.post("/generate", json=PICTURE)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/png")
    assert answer.headers["Strict-Transport-Security"]
    assert client.post("/verify", content=answer.content).status_code == 200
    own = {"Origin": f"https://{NAME}"}  # the playground's pages
    assert client.post("/generate", json=PICTURE, headers=own).status_code == 200
    evil = {"Origin": "https://evil.example"}
    assert client.post("/generate", json=PICTURE, headers=evil).status_code == 403


def test_events_come_one_by_one_as_they_occur(
    proxied: tuple[httpx.Client, Running], runner: GatedRunner
) -> None:
    """nginx neither holds them back nor compresses them."""
    client, running = proxied
    runner.close()
    steps = 5
    try:
        body = PICTURE | {"num_sampling_steps": steps}
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "gzip"}
        with client.stream("POST", "/generate", json=body, headers=headers) as answer:
            events = read_events(answer.iter_lines())
            wait_until(lambda: running.queue_row_steps > 0)
            for step in range(1, steps):
                runner.let(1)
                event = next(event for event in events if event.data["step"] == step)
                assert event.name == "progress"
            runner.open()
            assert [event.name for event in events if event.name != "progress"] == ["image", "done"]
    finally:
        runner.open()


def test_a_client_that_leaves_nginx_leaves_the_service(
    proxied: tuple[httpx.Client, Running], runner: GatedRunner
) -> None:
    client, running = proxied
    runner.close()
    try:
        body = PICTURE | {"num_sampling_steps": 1000}
        headers = {"Accept": "text/event-stream"}
        with client.stream("POST", "/generate", json=body, headers=headers):
            wait_until(lambda: running.queue_row_steps > 0)
        runner.let(2)
        wait_until(lambda: running.queue_row_steps == 0)
    finally:
        runner.open()


def test_who_has_no_password_gets_nothing(proxied: tuple[httpx.Client, Running]) -> None:
    client, _ = proxied
    for auth in (("me", "wrong"), None):
        assert client.get("/models", auth=auth).status_code == 401


def test_metrics_are_not_told(proxied: tuple[httpx.Client, Running]) -> None:
    client, _ = proxied
    assert client.get("/metrics").status_code == 403


def test_the_service_sees_the_client_and_not_what_it_claims(
    proxied: tuple[httpx.Client, Running], memory: InMemorySpanExporter
) -> None:
    client, _ = proxied
    forged = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "http", "X-Request-Id": "forged"}
    assert client.post("/generate", json=PICTURE, headers=forged).status_code == 200

    def attributes() -> list[Mapping[str, object]]:
        spans = [span.attributes or {} for span in memory.get_finished_spans()]
        return [each for each in spans if each.get("dit.request_id") == "forged"]

    wait_until(lambda: bool(attributes()))
    (found,) = attributes()
    assert (found["client.address"], found["url.scheme"]) == ("127.0.0.1", "https")
