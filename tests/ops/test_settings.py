"""Settings: the environment, the flags, and the messages for invalid ones."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from service.settings import Settings, SettingsError, read_settings, unknown_variables

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _without_dit_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("DIT_")]:
        monkeypatch.delenv(name)


GOOD = [
    ("model", "facebook/DiT-XL-2-256", "facebook/DiT-XL-2-256"),
    ("model_name", "us/fruit", "us/fruit"),
    ("revision", "refs/pr/1", "refs/pr/1"),
    ("model_sha256", "AB" * 32, "ab" * 32),
    ("vae", "stabilityai/sd-vae-ft-ema", "stabilityai/sd-vae-ft-ema"),
    ("classes", "names.json", Path("names.json")),
    ("num_heads", "4", 4),
    ("device", "cuda:1", "cuda:1"),
    ("dtype", "bfloat16", "bfloat16"),
    ("host", "0.0.0.0", "0.0.0.0"),
    ("port", "8001", 8001),
    ("metrics_host", "::1", "::1"),
    ("metrics_port", "9464", 9464),
    ("allowed_hosts", "dit.example, *.Example.com", ("dit.example", "*.example.com")),
    ("cors_origins", "https://app.example", ("https://app.example",)),
    ("api_keys_file", "keys", Path("keys")),
    ("api_keys", "alice: 0123456789abcdefghij", SecretStr("alice: 0123456789abcdefghij")),
    ("metrics_without_key", "true", True),
    ("address_file", "address", Path("address")),
    ("max_rows", "64", 64),
    ("max_queue_row_steps", "5000", 5000),
    ("max_images_per_request", "4", 4),
    ("max_body_bytes", "2048", 2048),
    ("request_timeout_s", "12.5", 12.5),
    ("drain_timeout_s", "0", 0.0),
    ("lame_duck_s", "15", 15.0),
    ("max_connections", "100", 100),
    ("head_timeout_s", "5", 5.0),
    ("body_timeout_s", "60", 60.0),
    ("send_timeout_s", "60", 60.0),
    ("keep_alive_s", "5", 5.0),
    (
        "trusted_proxies",
        "10.0.0.0/8, ::1",
        (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1")),
    ),
    ("reproducible", "1", True),
    ("compile", "true", True),
    ("default_cfg_scale", "4", 4.0),
    ("cfg_channels", "3", 3),
    ("default_quality", "fast", "fast"),
    ("default_steps", "20", 20),
    ("default_sampler", "dpmpp_2m", "dpmpp_2m"),
    ("c2pa_certificate", "chain.pem", Path("chain.pem")),
    ("c2pa_key", "key.pem", Path("key.pem")),
    ("log_format", "json", "json"),
]


def test_the_table_covers_every_setting() -> None:
    assert [name for name, *_ in GOOD] == list(Settings.model_fields)


@pytest.mark.parametrize(("name", "text", "value"), GOOD)
def test_a_variable_is_read(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object
) -> None:
    assert getattr(read_settings([]), name) != value
    monkeypatch.setenv(f"DIT_{name.upper()}", text)
    assert getattr(read_settings([]), name) == value
    assert getattr(read_settings(), name) == value


@pytest.mark.parametrize(("name", "text", "value"), GOOD)
def test_a_flag_is_read(name: str, text: str, value: object) -> None:
    flag = f"--{name.replace('_', '-')}"
    arguments = [flag] if value is True else [flag, text]
    assert getattr(read_settings(arguments), name) == value


def test_a_flag_overrides_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIT_PORT", "8001")
    monkeypatch.setenv("DIT_REPRODUCIBLE", "true")
    settings = read_settings(["--port", "8002", "--no-reproducible"])
    assert (settings.port, settings.reproducible) == (8002, False)


@pytest.mark.parametrize("host", ["::", "::1", "fe80::1%eth0", "dit.example", "0.0.0.0"])
def test_hosts_are_taken_with_and_without_brackets(host: str) -> None:
    assert read_settings(["--host", host]).host == host
    assert read_settings(["--host", f"[{host}]"]).host == host


def test_an_empty_variable_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIT_PORT", "")
    assert read_settings([]).port == 8000


@pytest.mark.parametrize(
    ("variable", "text", "allowed"),
    [
        ("DIT_DEVICE", "gpu", "auto, cpu, cuda or cuda:N"),
        ("DIT_REVISION", "../../x", "branch, tag or commit"),
        ("DIT_MODEL_NAME", "a b", "such as fruit or us/fruit"),
        ("DIT_MODEL_SHA256", "ab" * 31, "64 hexadecimal digits"),
        ("DIT_MODEL_SHA256", "sha256:" + "ab" * 32, "64 hexadecimal digits"),
        ("DIT_METRICS_HOST", "localhost:9464", "the port is DIT_METRICS_PORT"),
        ("DIT_METRICS_PORT", "http", "valid integer"),
        ("DIT_METRICS_PORT", "8000", "that is DIT_PORT, too"),
        ("DIT_DTYPE", "fp8", "'auto', 'float32' or 'bfloat16'"),
        ("DIT_HOST", "127.0.0.1:8000", "the port is DIT_PORT"),
        ("DIT_HOST", "[::1]:8000", "the port is DIT_PORT"),
        ("DIT_HOST", "localhost:8000", "the port is DIT_PORT"),
        ("DIT_HOST", "http://127.0.0.1", "without http://"),
        ("DIT_HOST", "127.0.0.1/", "without http://"),
        ("DIT_HOST", " ", "an address or a host name"),
        ("DIT_PORT", "http", "valid integer"),
        ("DIT_PORT", "70000", "less than or equal to 65535"),
        ("DIT_MAX_ROWS", "1", "greater than or equal to 2"),
        ("DIT_MAX_QUEUE_ROW_STEPS", "0", "greater than or equal to 1"),
        ("DIT_MAX_IMAGES_PER_REQUEST", "0", "greater than or equal to 1"),
        ("DIT_MAX_BODY_BYTES", "10", "greater than or equal to 1024"),
        ("DIT_REQUEST_TIMEOUT_S", "0", "greater than 0"),
        ("DIT_REQUEST_TIMEOUT_S", "nan", "finite number"),
        ("DIT_DRAIN_TIMEOUT_S", "-1", "greater than or equal to 0"),
        ("DIT_LAME_DUCK_S", "-1", "greater than or equal to 0"),
        ("DIT_MAX_CONNECTIONS", "0", "greater than or equal to 1"),
        ("DIT_HEAD_TIMEOUT_S", "0", "greater than 0"),
        ("DIT_BODY_TIMEOUT_S", "0", "greater than 0"),
        ("DIT_SEND_TIMEOUT_S", "0", "greater than 0"),
        ("DIT_KEEP_ALIVE_S", "0", "greater than 0"),
        ("DIT_TRUSTED_PROXIES", "10.0.0.1/8", "has host bits set"),
        ("DIT_TRUSTED_PROXIES", "proxy", "addresses or networks"),
        ("DIT_ALLOWED_HOSTS", "a.example:80", "'a.example:80' is not a host name"),
        ("DIT_ALLOWED_HOSTS", "a.example,,b.example", "'' is not a host name"),
        ("DIT_CORS_ORIGINS", "app.example", "'app.example' is not an origin"),
        ("DIT_CORS_ORIGINS", "https://a.example/", "'https://a.example/' is not an origin"),
        ("DIT_REPRODUCIBLE", "maybe", "valid boolean"),
        ("DIT_DEFAULT_CFG_SCALE", "0.5", "greater than or equal to 1"),
        ("DIT_DEFAULT_QUALITY", "good", "'fast', 'balanced' or 'best'"),
        ("DIT_DEFAULT_STEPS", "1001", "less than or equal to 1000"),
        ("DIT_DEFAULT_SAMPLER", "euler", "'dpmpp_2m', 'fitted' or 'ns'"),
        ("DIT_LOG_FORMAT", "xml", "'json' or 'console'"),
    ],
)
def test_an_invalid_value_is_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, allowed: str
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(SettingsError) as caught:
        read_settings([])
    line = str(caught.value)
    assert line.startswith(f"{variable} (--")
    assert repr(text) in line
    assert allowed in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--prot", "1"], "--prot 1; did you mean --port? (--help lists the flags)"),
        (["--port"], "argument --port: expected one argument (--help lists the flags)"),
        (["model.pt"], "unrecognized arguments: model.pt (--help lists the flags)"),
        (["--port", "x"], "DIT_PORT (--port) is 'x': it should be a valid integer"),
    ],
)
def test_an_invalid_flag_is_reported_in_one_line(arguments: list[str], line: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(arguments)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_variable_is_reported_with_the_nearest_setting() -> None:
    environment = {"DIT_PROT": "1", "DIT_PORT": "2", "DIT_ZZ": "3", "PATH": "4", "PROT": "5"}
    assert unknown_variables(environment) == [
        "DIT_PROT is not a setting; did you mean DIT_PORT?",
        "DIT_ZZ is not a setting",
    ]


def run_service(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m service` until it exits."""
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        env=os.environ | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_an_invalid_value_ends_the_start_with_one_line() -> None:
    ended = run_service([], DIT_PORT="http")
    assert ended.returncode == 2
    assert ended.stderr.startswith("DIT_PORT (--port) is 'http': ")
    assert ended.stderr.count("\n") == 1
    assert not ended.stdout


def test_help_names_every_flag_and_its_default() -> None:
    ended = run_service(["--help"])
    assert ended.returncode == 0
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')}" in ended.stdout
    assert "default: bundled" in ended.stdout
    assert "default: 8000" in ended.stdout
