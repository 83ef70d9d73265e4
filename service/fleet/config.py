"""FleetConfig: the models behind one address, and how many replicas each has.

It is the ``args`` of the application in deploy/ray/serve.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.settings import LogFormat, Settings, SettingsError, explain_errors

NOT_IN_A_FLEET = frozenset(
    {
        "address_file",
        "body_timeout_s",
        "head_timeout_s",
        "host",
        "keep_alive_s",
        "lame_duck_s",
        "max_connections",
        "metrics_host",
        "metrics_port",
        "model",
        "model_name",
        "port",
        "send_timeout_s",
    }
)
"""Settings that the configuration names elsewhere, or that Ray's HTTP proxy decides."""

Amount = Annotated[float, Field(ge=0)]


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Autoscaling(Record):
    """How many replicas a model has, by its load."""

    min_replicas: int = Field(1, ge=1, description="the fewest")
    max_replicas: int = Field(ge=1, description="the most")
    target_row_steps: int = Field(
        400, ge=1, description="work per replica that is aimed at, in rows times steps"
    )
    upscale_delay_s: Amount = Field(15.0, description="how long the load has to ask for more")
    downscale_delay_s: Amount = Field(300.0, description="how long it has to ask for fewer")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError("min_replicas is more than max_replicas")
        return self


class ModelConfig(Record):
    """One model and its replicas."""

    name: str = Field(
        description="what requests call it, and its files",
        pattern=r"^[\w.-]{1,100}(/[\w.-]{1,100})?$",
    )
    model: str = Field(
        "", description="as DIT_MODEL: a folder, a file, a hub id or bundled; unset: the name"
    )
    num_replicas: int | None = Field(None, ge=1, description="unset: 1, or autoscaling")
    autoscaling: Autoscaling | None = None
    num_gpus: Amount = Field(0.0, description="GPUs of a replica; may be a fraction")
    num_cpus: Amount = Field(1.0, description="CPUs that Ray sets aside for a replica")
    resources: dict[str, Amount] = Field(
        default_factory=dict, description="Ray's own resources that a replica needs"
    )
    settings: dict[str, str | int | float | bool | None] = Field(
        default_factory=dict, description="of this model's replicas, by their names without DIT_"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.num_replicas is not None and self.autoscaling is not None:
            raise ValueError("num_replicas and autoscaling exclude each other")
        misplaced = sorted(NOT_IN_A_FLEET & self.settings.keys())
        if misplaced:
            raise ValueError(f"settings: {', '.join(misplaced)} cannot be set here")
        unknown = sorted(self.settings.keys() - Settings.model_fields.keys())
        if unknown:
            raise ValueError(f"settings: {', '.join(unknown)} does not exist")
        return self

    @property
    def deployment(self) -> str:
        """The name of its deployment, which may hold no slash."""
        return re.sub(r"[^\w.-]", "--", self.name)

    def read_settings(self) -> Settings:
        """The settings of its replicas: these, then those of the environment.

        Raises:
            SettingsError: one is wrong.
        """
        own = {"model": self.model or self.name, "model_name": self.name}
        given = {"log_format": "json"} | self.settings | own
        try:
            return Settings(**given)  # type: ignore[arg-type]
        except ValidationError as error:
            raise SettingsError(f"model {self.name}: {explain_errors(error)}") from None


class FrontConfig(Record):
    """What takes requests in and sends them to the models' replicas."""

    num_replicas: int = Field(1, ge=1, description="fronts, each knowing what it sent itself")
    num_cpus: Amount = Field(0.0, description="CPUs that Ray sets aside for one")
    wait_for_replica_s: float = Field(
        30.0, gt=0, description="how long a request may wait for a replica that takes it"
    )


class FleetConfig(Record):
    """The models, the first of which serves requests that name none."""

    models: Annotated[tuple[ModelConfig, ...], Field(min_length=1)]
    front: FrontConfig = Field(default_factory=lambda: FrontConfig.model_validate({}))
    router: Literal["row-steps", "ray"] = Field(
        "row-steps", description="who chooses a replica: our router, or Ray's by request counts"
    )
    max_ongoing_requests: int = Field(
        4096, ge=1, description="requests at a replica; its queue is bounded by work instead"
    )
    log_format: LogFormat = Field("json", description="form of the log lines")
    health_check_period_s: float = Field(2.0, gt=0, description="between checks of a replica")

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [model.deployment.lower() for model in self.models]
        if len(set(names)) < len(names):
            raise ValueError("models: two have the same name")
        return self


def read_config(args: Mapping[str, object]) -> FleetConfig:
    """The configuration in an application's ``args``.

    Raises:
        SettingsError: something in it is wrong.
    """
    try:
        return FleetConfig.model_validate(args)
    except ValidationError as error:
        found = error.errors()
    places = [(".".join(map(str, one["loc"])), one["msg"]) for one in found]
    raise SettingsError("; ".join(f"{place or 'args'}: {message}" for place, message in places))
