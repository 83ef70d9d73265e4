"""Options: those that several commands share."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import PurePath
from typing import TypeVar, get_args

import click
from typing_extensions import ParamSpec

from dit_client.async_client import AsyncClient
from dit_client.cli.output import say_retry
from dit_client.client import Client
from dit_client.exchange import DEFAULT_URL
from dit_client.options import Options, OutputFormat, Quality
from dit_client.retries import NO_RETRIES, RetryPolicy

P = ParamSpec("P")
R = TypeVar("R")
Command = Callable[..., R]

FORMATS: Mapping[str, OutputFormat] = {
    ".png": "png",
    ".webp": "webp",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
}


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the service is, and how long to wait for it."""

    url: str
    api_key: str | None
    timeout_s: float | None

    def client(self) -> Client:
        """
        Raises:
            ValueError: the URL, the key or the timeout is not valid.
        """
        return Client(
            self.url, api_key=self.api_key, timeout_s=self.timeout_s, retries=self._retries
        )

    def async_client(self, *, retries: bool = True) -> AsyncClient:
        """
        Raises:
            ValueError: the URL, the key or the timeout is not valid.
        """
        return AsyncClient(
            self.url,
            api_key=self.api_key,
            timeout_s=self.timeout_s,
            retries=self._retries if retries else NO_RETRIES,
        )

    @property
    def _retries(self) -> RetryPolicy:
        return RetryPolicy(on_retry=say_retry)


def connection_options(command: Command[R]) -> Command[R]:
    """Adds --url, --api-key and --timeout, as one argument ``connection``."""

    @wraps(command)
    def with_connection(
        *args: object, url: str, api_key: str | None, timeout: float | None, **rest: object
    ) -> R:
        return command(*args, connection=Connection(url, api_key, timeout), **rest)

    return _decorated(
        with_connection,
        click.option(
            "--url",
            envvar="DIT_URL",
            default=DEFAULT_URL,
            show_default=True,
            show_envvar=True,
            help="The service's address.",
        ),
        click.option(
            "--api-key", envvar="DIT_API_KEY", show_envvar=True, help="Its key, if it has any."
        ),
        click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            metavar="SECONDS",
            help="How long a request may take, tries included.",
        ),
    )


def sampling_options(command: Command[R]) -> Command[R]:
    """Adds what every image can be asked for with, as one argument ``options``."""

    @wraps(command)
    def with_options(
        *args: object,
        cfg_scale: float | None,
        steps: int | None,
        sampler: str | None,
        quality: Quality | None,
        guidance_interval: tuple[float, float] | None,
        cfg_channels: int | None,
        set_: tuple[str, ...],
        **rest: object,
    ) -> R:
        options = Options(
            cfg_scale=cfg_scale,
            num_sampling_steps=steps,
            sampler=sampler,
            quality=quality,
            guidance_interval=guidance_interval,
            cfg_channels=cfg_channels,
            extra=dict(map(_assignment, set_)) or None,
        )
        return command(*args, options=options, **rest)

    return _decorated(
        with_options,
        click.option("--cfg-scale", "--guidance", type=float, help="Guidance; 1 means none."),
        click.option("--steps", type=int, help="Denoising steps."),
        click.option("--sampler", help="ddim, ddpm, dpmpp_2m, ...: `dit models` lists them."),
        click.option(
            "--quality", type=click.Choice(get_args(Quality)), help="A preset of sampler and steps."
        ),
        click.option(
            "--guidance-interval",
            type=float,
            nargs=2,
            metavar="LOW HIGH",
            help="The part of the noise range, 0 to 1, in which guidance applies.",
        ),
        click.option(
            "--cfg-channels", type=int, help="The first channels of the noise alone are guided."
        ),
        click.option(
            "--set",
            "set_",
            multiple=True,
            metavar="FIELD=JSON",
            help="Any other field of the request; repeatable.",
        ),
    )


format_option = click.option(
    "--format",
    "output_format",
    type=click.Choice(get_args(OutputFormat)),
    help="Of the image files.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
force_option = click.option("--force", is_flag=True, help="Replace files that exist.")


def format_of(path: PurePath, chosen: OutputFormat | None) -> OutputFormat | None:
    """The format of a file: as chosen, else by the end of its name.

    Raises:
        click.UsageError: the two differ, or the name's end is none of an image.
    """
    by_name = FORMATS.get(path.suffix.lower())
    if chosen is not None and by_name not in (None, chosen):
        raise click.UsageError(f"{path} is not a name for {chosen}")
    if path.suffix and by_name is None and chosen is None:
        raise click.UsageError(
            f"{path}: the name ends in none of {', '.join(FORMATS)}; or use --format"
        )
    return chosen or by_name


def class_label(text: str) -> int | str:
    """A class as the request names it: digits are an id."""
    return int(text) if text.isdecimal() and text.isascii() else text


def _assignment(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{text!r} is not FIELD=JSON", param_hint="--set")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _decorated(command: Command[R], *decorators: Callable[[Command[R]], Command[R]]) -> Command[R]:
    for decorate in reversed(decorators):
        command = decorate(command)
    return command
