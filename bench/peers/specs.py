"""Specs: our server and the peers', as they are started."""

from __future__ import annotations

import json
import sys
from importlib import metadata

from bench.arms.models import model_folder
from bench.load.servers import PORT, ServerSpec
from bench.options import Options

OURS, STATIC = "ours", "static batcher"


def our_server(
    options: Options, *, name: str = OURS, module: str = "service", reproducible: bool = False
) -> ServerSpec:
    """Our service with its defaults, but with limits that never reject or end a request."""
    environment = options.environment() | {
        "DIT_MODEL": model_folder(options.served_model, options),
        "DIT_DEVICE": options.device,
        "DIT_PORT": PORT,
        "DIT_REQUEST_TIMEOUT_S": "3600",
        "DIT_MAX_QUEUE_ROW_STEPS": "100000000",
        "DIT_REPRODUCIBLE": str(reproducible).lower(),
    }
    return ServerSpec(module, environment=environment, log=options.log(name))


def static_server(options: Options) -> ServerSpec:
    """Our service with a static batcher as its scheduler."""
    return our_server(options, name=STATIC, module="bench.peers.static")


def naive_server(options: Options, dtype: str) -> ServerSpec:
    return _peer(options, "naive", dtype)


def lit_server(options: Options, dtype: str, batch: int, wait: float) -> ServerSpec:
    return _peer(options, "lit", dtype, batch, wait)


def lit_installed(options: Options) -> bool:
    paths = [*sys.path, str(options.site)]
    return any(metadata.distributions(name="litserve", path=paths))


def _peer(
    options: Options, module: str, dtype: str, batch: int = 1, wait: float = 0.0
) -> ServerSpec:
    fields = {
        "port": PORT,
        "model": model_folder(options.served_model, options),
        "device": options.device,
        "dtype": dtype,
        "batch": batch,
        "wait": wait,
    }
    return ServerSpec(
        f"bench.peers.{module}",
        (json.dumps(fields),),
        options.peer_environment(),
        ready_path="/health",
        log=options.log(f"{module} {dtype}"),
        peer=True,
    )
