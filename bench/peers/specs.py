"""Specs: our server and the peers', as they are started."""

from __future__ import annotations

import sys
from importlib import metadata

from bench.arms.models import model_folder
from bench.load.servers import ServerSpec
from bench.options import Options

OURS, STATIC = "ours", "static batcher"


def our_server(
    options: Options, *, name: str = OURS, module: str = "service", reproducible: bool = False
) -> ServerSpec:
    """Our service with its defaults; only its limits never reject or end a request."""
    environment = options.environment() | {
        "DIT_MODEL": model_folder(options.served_model, options),
        "DIT_DEVICE": options.device,
        "DIT_PORT": "{port}",
        "DIT_REQUEST_TIMEOUT_S": "3600",
        "DIT_MAX_QUEUE_ROW_STEPS": "100000000",
        "DIT_REPRODUCIBLE": str(reproducible).lower(),
    }
    return ServerSpec(module, environment=environment, log=options.log(name))


def static_server(options: Options) -> ServerSpec:
    """Our service with a static batcher as its scheduler."""
    return our_server(options, name=STATIC, module="bench.peers.static")


def naive_server(options: Options, dtype: str) -> ServerSpec:
    return _peer(options, "bench.peers.naive", f"naive {dtype}", "--dtype", dtype)


def lit_server(options: Options, dtype: str, batch: int, wait: float) -> ServerSpec:
    flags = ("--dtype", dtype, "--batch", str(batch), "--wait", str(wait))
    return _peer(options, "bench.peers.lit", f"LitServe {dtype}", *flags)


def lit_installed(options: Options) -> bool:
    paths = [*sys.path, str(options.site)]
    return any(metadata.distributions(name="litserve", path=paths))


def _peer(options: Options, module: str, name: str, *flags: str) -> ServerSpec:
    model = model_folder(options.served_model, options)
    return ServerSpec(
        module,
        ("--port", "{port}", "--model", model, "--device", options.device, *flags),
        options.peer_environment(),
        ready_path="/health",
        log=options.log(name),
        peer=True,
    )
