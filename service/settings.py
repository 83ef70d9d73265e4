"""Settings: what the environment (DIT_*) and the command line say, read once at the start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "DIT_"
Positive = Annotated[int, Field(ge=1)]


class Settings(BaseSettings):
    """Every setting has a default that serves the bundled model on this machine."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        cli_prog_name="python -m service",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    model: str = Field(
        "bundled",
        description="bundled, a DiTPipeline folder, a .pt or .safetensors file, or a hub id",
    )
    vae: str | None = Field(
        None, description="folder or hub id of the autoencoder, where the model has none beside it"
    )
    classes: Path | None = Field(
        None, description="JSON file of class names: a list, or a map from id to name or names"
    )
    device: str = Field(
        "auto", description="auto, cpu, cuda or cuda:N", pattern=r"^(auto|cpu|cuda(:\d+)?)$"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the transformer; auto is bfloat16 on CUDA and float32 on a CPU"
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    max_rows: int | None = Field(
        None,
        ge=2,
        le=1024,
        description="rows of the largest forward pass; an image under guidance takes two"
        " (default: 128 on CUDA, 32 on a CPU)",
    )
    max_queue_row_steps: Positive = Field(
        100_000, description="work that may wait or run, in rows times steps"
    )
    max_images_per_request: int = Field(16, ge=1, le=256, description="limit of num_images")
    max_body_bytes: int = Field(65_536, ge=1024, description="limit of a request's body")
    request_timeout_s: float = Field(
        300.0, gt=0, le=86_400, description="longest and default deadline of a request"
    )
    drain_timeout_s: float = Field(
        30.0, ge=0, le=3600, description="how long a stop waits for the images that are in"
    )
    reproducible: bool = Field(
        False, description="make an image's bytes independent of the images beside it, at a price"
    )
    default_cfg_scale: float = Field(
        1.5, ge=1.0, le=20.0, description="guidance where none is asked"
    )
    default_steps: int = Field(50, ge=1, le=1000, description="steps where none are asked")
    default_sampler: Literal["ddim", "ddpm", "dpmpp_2m"] = Field(
        "ddim", description="sampler where none is asked"
    )
    log_format: Literal["json", "console"] = Field("console", description="form of the log lines")


class SettingsError(ValueError):
    """One line that names the variable and says what it may be."""


def read_settings(arguments: list[str] | None = None) -> Settings:
    """Read the environment, and over it the command line where ``arguments`` are given.

    Raises:
        SettingsError: a value is wrong.
    """
    try:
        return Settings(_cli_parse_args=arguments)  # type: ignore[call-arg]
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(one) for one in error.errors())) from None


def _explain(error: object) -> str:
    assert isinstance(error, dict), "this is a bug: pydantic's errors are dictionaries"
    name = str(error["loc"][0])
    field = Settings.model_fields.get(name)
    meaning = f" ({field.description})" if field is not None else ""
    reason = str(error["msg"])[0].lower() + str(error["msg"])[1:]
    return f"{PREFIX}{name.upper()} is {error['input']!r}: {reason}{meaning}"
