"""The application that Ray Serve runs: a front, and replicas of each model.

`serve run deploy/ray/serve.yaml` builds it from that file; docs/scaling.md describes it.
"""

from __future__ import annotations

from collections.abc import Callable

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig
from ray.serve.schema import LoggingConfig

from model.runner.runner import ModelRunner
from service.fleet.config import FleetConfig, ModelConfig, read_config
from service.fleet.deployments.front import FrontDeployment
from service.fleet.deployments.replica import ModelReplica
from service.load_model import load_runner
from service.settings import Settings

ROUTER = "service.fleet.deployments.router:RowStepsRouter"
POLICY = "service.fleet.deployments.policy:RowStepsPolicy"
STATS_S = 1.0
"""How often replicas tell fronts of their work without being asked."""
STOP_MARGIN_S = 10.0
QUIET = LoggingConfig(enable_access_log=False)
"""Replicas log their requests themselves."""


def build(args: dict[str, object]) -> Application:
    """The application of a configuration, which the file has as its ``args``.

    Raises:
        SettingsError: something in it is wrong.
    """
    return application(read_config(args))


def application(
    config: FleetConfig, load: Callable[[Settings], ModelRunner] = load_runner
) -> Application:
    """The same, with another way to build the runner."""
    models = {model.name: _model(model, config, load) for model in config.models}
    slowest_s = max(model.read_settings().request_timeout_s for model in config.models)
    front = serve.deployment(
        serve.ingress()(FrontDeployment),
        name="front",
        num_replicas=config.front.num_replicas,
        ray_actor_options={"num_cpus": config.front.num_cpus},
        max_ongoing_requests=config.max_ongoing_requests,
        graceful_shutdown_timeout_s=slowest_s + STOP_MARGIN_S,
        health_check_period_s=config.health_check_period_s,
        logging_config=QUIET,
    )
    return front.bind(config, models)


def _model(
    model: ModelConfig, config: FleetConfig, load: Callable[[Settings], ModelRunner]
) -> Application:
    settings = model.read_settings()
    scaling = model.autoscaling
    deployment = serve.deployment(
        ModelReplica,
        name=model.deployment,
        ray_actor_options={
            "num_cpus": model.num_cpus,
            "num_gpus": model.num_gpus,
            "resources": model.resources,
        },
        max_ongoing_requests=config.max_ongoing_requests,
        graceful_shutdown_timeout_s=settings.request_timeout_s + STOP_MARGIN_S,
        health_check_period_s=config.health_check_period_s,
        logging_config=QUIET,
        request_router_config=_router(config),
        **({"num_replicas": model.num_replicas or 1} if scaling is None else {}),
        **({"autoscaling_config": _autoscaling(model)} if scaling is not None else {}),
    )
    return deployment.bind(settings, load)


def _router(config: FleetConfig) -> RequestRouterConfig:
    own = {"request_router_class": ROUTER} if config.router == "row-steps" else {}
    return RequestRouterConfig(**own, request_routing_stats_period_s=STATS_S)


def _autoscaling(model: ModelConfig) -> AutoscalingConfig:
    scaling = model.autoscaling
    assert scaling is not None, "this is a bug: asked for a model without autoscaling"
    return AutoscalingConfig(
        min_replicas=scaling.min_replicas,
        max_replicas=scaling.max_replicas,
        upscale_delay_s=scaling.upscale_delay_s,
        downscale_delay_s=scaling.downscale_delay_s,
        policy=AutoscalingPolicy(
            policy_function=POLICY, policy_kwargs={"target_row_steps": scaling.target_row_steps}
        ),
    )
