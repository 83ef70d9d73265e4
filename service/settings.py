"""Settings: read once at startup from the environment (DIT_*) and the command line."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as ArgumentError

from model.sampling.parameters import CfgScale, ChannelCount, SamplerName, StepCount
from model.sampling.presets import DEFAULT_QUALITY, Quality
from service.listening import parse_host

PREFIX = "DIT_"
Positive = Annotated[int, Field(ge=1)]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(given: object) -> object:
    if not isinstance(given, str):
        return given
    try:
        return tuple(ipaddress.ip_network(each.strip()) for each in given.split(","))
    except ValueError as error:
        raise PydanticCustomError("network", "{reason}", {"reason": str(error)}) from None


TrustedProxies = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)]

HOST_NAME = re.compile(r"\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*")
ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/?#@\s]+")


def _names(pattern: re.Pattern[str], what: str, given: object) -> object:
    """The members of a list with commas, in lower case."""
    if not isinstance(given, str):
        return given
    names = tuple(each.strip().lower() for each in given.split(","))
    for name in names:
        if not pattern.fullmatch(name):
            reason = f"{name!r} is not {what}"
            raise PydanticCustomError("name", "{reason}", {"reason": reason})
    return names


HostNames = Annotated[
    tuple[str, ...], NoDecode, BeforeValidator(partial(_names, HOST_NAME, "a host name"))
]
Origins = Annotated[
    tuple[str, ...], NoDecode, BeforeValidator(partial(_names, ORIGIN, "an origin"))
]

Digest = Annotated[str, AfterValidator(str.lower), Field(pattern=r"^[0-9A-Fa-f]{64}$")]

LogFormat = Literal["json", "console"]


class Settings(BaseSettings):
    """The defaults serve the bundled model on this machine."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        allow_inf_nan=False,
        cli_prog_name="python -m service",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_exit_on_error=False,
    )

    model: str = Field(
        "bundled",
        description="bundled, a DiTPipeline folder, a .pt or .safetensors file, or a hub id",
    )
    model_name: str | None = Field(
        None,
        description="name of the model in answers and files, such as fruit or us/fruit; unset: its own",
        pattern=r"^[\w.-]{1,100}(/[\w.-]{1,100})?$",
    )
    revision: str | None = Field(
        None,
        description="branch, tag or commit of the hub id to serve; unset: the main branch",
        pattern=r"^\w[\w.+-]*(/[\w+-][\w.+-]*)*$",
    )
    model_sha256: Digest | None = Field(
        None,
        description="64 hexadecimal digits: the digest that the model must have, autoencoder included;"
        " the log and /models tell it",
    )
    vae: str | None = Field(
        None,
        description="folder or hub id of an autoencoder to use instead of the model's own; single"
        " files have none",
    )
    classes: Path | None = Field(
        None,
        description="JSON file of class names: a list, or a map from id to one or more names or from"
        " name to id",
    )
    num_heads: Positive | None = Field(
        None,
        description="attention heads of the model, if neither its file nor a config.json tells them",
    )
    device: str = Field(
        "auto",
        description="auto, cpu, cuda or cuda:N; auto is the first CUDA device, or the CPU if there is"
        " none that works",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="the transformer's; auto is bfloat16 on CUDA and on a CPU with AVX512-BF16 or"
        " AMX, else float32",
    )
    host: Annotated[str, AfterValidator(parse_host)] = Field(
        "127.0.0.1",
        description="address or host name to listen on; :: is every IPv6 and IPv4 address",
    )
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    metrics_host: Annotated[str, AfterValidator(partial(parse_host, prefix="METRICS_"))] | None = (
        Field(None, description="as --host, for --metrics-port; unset: the same")
    )
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="port for /metrics alone, and then not on --port; unset: there, with all else",
    )
    allowed_hosts: HostNames = Field(
        (),
        description="host names to answer to, with commas; *.example.com allows subdomains, * any"
        " name. Addresses and localhost are always allowed. Unset: only these while listening on"
        " this machine alone, else any",
    )
    cors_origins: Origins = Field(
        (),
        description="other sites whose pages may send requests and read the answers, with commas:"
        " https://app.example, or * for all",
    )
    api_keys_file: Path | None = Field(
        None,
        description="file of the API keys that requests need, a line each: NAME: KEY, then limits."
        " Read again on SIGHUP or when it has changed; unset: no key is needed",
    )
    api_keys: SecretStr | None = Field(
        None, description="the same as a list with commas, for a few keys that stay"
    )
    metrics_without_key: bool = Field(False, description="let everybody read /metrics")
    address_file: Path | None = Field(
        None, description="file to write the service's URL to, for programs on the same machine"
    )
    max_rows: int | None = Field(
        None,
        ge=2,
        le=1024,
        description="rows of the largest forward pass; a guided image takes two. Unset: 128 on"
        " CUDA, 32 on a CPU",
    )
    max_queue_row_steps: Positive = Field(
        100_000, description="the most work that may wait or run, in rows times steps"
    )
    max_images_per_request: int = Field(16, ge=1, le=256, description="limit of num_images")
    max_body_bytes: int = Field(65_536, ge=1024, description="limit of a request's body")
    request_timeout_s: float = Field(
        300.0, gt=0, le=86_400, description="longest and default deadline of a request"
    )
    drain_timeout_s: float = Field(
        30.0, ge=0, le=3600, description="how long a stop waits for admitted requests"
    )
    lame_duck_s: float = Field(
        0.0,
        ge=0,
        le=3600,
        description="how long a stop admits requests while /readyz is 503 already",
    )
    max_connections: int = Field(
        4096, ge=1, le=65_536, description="open connections, as far as descriptors allow"
    )
    head_timeout_s: float = Field(
        10.0, gt=0, le=3600, description="how long a request's head may take to arrive"
    )
    body_timeout_s: float = Field(
        30.0, gt=0, le=3600, description="how long a request's body may take to arrive"
    )
    send_timeout_s: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="how long a client may take next to nothing of an answer that is ready",
    )
    keep_alive_s: float = Field(
        75.0, gt=0, le=3600, description="how long a connection may wait for its next request"
    )
    trusted_proxies: TrustedProxies = Field(
        (), description="addresses or networks, separated by commas, whose X-Forwarded-* count"
    )
    reproducible: bool = Field(
        False,
        description="make an image's bytes independent of concurrent images, at some cost in speed",
    )
    compile: bool = Field(
        False, description="on CUDA, compile the forward pass with torch.compile: a slower start"
    )
    default_cfg_scale: CfgScale | None = Field(
        None, description="guidance scale of a request that names none; unset: the model's own"
    )
    cfg_channels: ChannelCount | None = Field(
        None,
        description="first channels of the noise that are guided in a request that names none; 3 for"
        " the official samples of DiT. Unset: all",
    )
    default_quality: Quality = Field(
        DEFAULT_QUALITY,
        description="quality of a request that names no quality, steps or sampler: fast, balanced or"
        " best; each model's presets say what that means, see /models",
    )
    default_steps: StepCount | None = Field(
        None, description="steps of a request that names none; unset: those of the quality, or 50"
    )
    default_sampler: SamplerName | None = Field(
        None,
        description="sampler of a request that names none; unset: that of the quality, or ddim",
    )
    c2pa_certificate: Path | None = Field(
        None,
        description="PEM file of the certificate to sign pictures with, and of those that certify it;"
        " unset: they are not signed",
    )
    c2pa_key: Path | None = Field(None, description="PEM file of that certificate's private key")
    log_format: LogFormat = Field("console", description="form of the log lines")

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        """Host and port of /metrics, where it has its own."""
        if self.metrics_port is None:
            return None
        return self.metrics_host or self.host, self.metrics_port


class _LogFormat(BaseSettings):
    """One of the settings alone."""

    model_config = Settings.model_config | SettingsConfigDict(cli_ignore_unknown_args=True)

    log_format: LogFormat = "console"


class SettingsError(ValueError):
    """One line that names the variable and says what it may be."""


def read_settings(arguments: list[str] | None = None) -> Settings:
    """Read the environment and, if ``arguments`` are given, the command line, which wins.

    Raises:
        SettingsError: a value is wrong, or a flag unknown.
    """
    try:
        settings = Settings(_cli_parse_args=arguments)  # type: ignore[call-arg]
    except ValidationError as error:
        raise SettingsError(explain_errors(error)) from None
    except ArgumentError as error:
        reason = str(error).removeprefix("error parsing CLI: ")
        raise SettingsError(f"{reason}{_nearest_flag(reason)} (--help lists the flags)") from None
    if settings.port and settings.metrics_address == (settings.host, settings.port):
        reason = "that is DIT_PORT, too; leave it unset to have /metrics there"
        raise wrong_setting("metrics_port", settings.metrics_port, reason)
    return settings


def explain_errors(error: ValidationError) -> str:
    """What is wrong with each setting, in one line."""
    return "; ".join(_explain(one) for one in error.errors())


def wrong_setting(name: str, value: object, reason: str) -> SettingsError:
    """The error for a setting whose value is found wrong later than by `read_settings`."""
    return SettingsError(f"{_place(name)} is {_shown(value)}: {reason}")


def read_log_format(arguments: list[str]) -> LogFormat:
    """The form of the log lines, also where another setting is wrong."""
    try:
        return _LogFormat(_cli_parse_args=arguments).log_format  # type: ignore[call-arg]
    except (ValidationError, ArgumentError):
        return "console"


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """A warning for each DIT_ variable that is not a setting, with the most similar one."""
    known = [_variable(name) for name in Settings.model_fields]
    unknown = [
        name for name in environment if name.startswith(PREFIX) and name.upper() not in known
    ]
    return [f"{name} is not a setting{_nearest(name.upper(), known)}" for name in unknown]


def _explain(error: object) -> str:
    assert isinstance(error, dict), "this is a bug: pydantic's errors are dictionaries"
    name = str(error["loc"][0])
    meaning = Settings.model_fields[name].description
    place = f"{_place(name)} is {error['input']!r}"
    if error["type"] == "value_error":
        return f"{place}: {error['ctx']['error']}"
    if error["type"] == "string_pattern_mismatch":
        return f"{place}: it should be {meaning}"
    reason = str(error["msg"]).replace("Input", "it", 1).partition(", unable")[0]
    return f"{place}: {reason} ({meaning})"


def _place(name: str) -> str:
    return f"{_variable(name)} ({_flag(name)})"


def _shown(value: object) -> str:
    return "not set" if value is None else repr(str(value))


def _nearest_flag(reason: str) -> str:
    flags = [_flag(name) for name in Settings.model_fields]
    given = next((word for word in reason.split() if word.startswith("--")), "")
    return "" if given.rstrip(":") in flags else _nearest(given, flags)


def _nearest(word: str, known: list[str]) -> str:
    alike = difflib.get_close_matches(word, known, n=1, cutoff=0.65)
    return f"; did you mean {alike[0]}?" if alike else ""


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
