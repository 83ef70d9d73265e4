"""Peers: the servers that stand beside ours."""

from __future__ import annotations

import sys
from importlib import metadata

from bench.load.servers import ServerSpec
from bench.models.folders import model_folder
from bench.options import Options

STATIC = "static batcher"
PATIENT_S = "3600"


def our_server(
    model: str, options: Options, *, name: str = "ours", module: str = "service", **settings: str
) -> ServerSpec:
    """Our service as `python -m service` starts it; settings by their names in lower case."""
    given = {
        "model": model_folder(model, options),
        "device": options.device,
        "port": "{port}",
        "request_timeout_s": PATIENT_S,
        "max_queue_row_steps": "100000000",  # what a load asks for is worked off, by every arm
    }
    given |= settings
    environment = {f"DIT_{key.upper()}": value for key, value in given.items()}
    return ServerSpec(name, module, (), "/readyz", peer=False, environment=environment)


def static_server(model: str, options: Options) -> ServerSpec:
    """Ours, with joining switched off."""
    return our_server(model, options, name=STATIC, module="bench.peers.static")


def naive_server(model: str, options: Options, dtype: str) -> ServerSpec:
    return _peer("bench.peers.naive", f"naive {dtype}", model, options, ("--dtype", dtype))


def lit_server(model: str, options: Options, dtype: str, batch: int, wait: float) -> ServerSpec:
    flags = ("--dtype", dtype, "--batch", str(batch), "--wait", str(wait))
    return _peer("bench.peers.lit", f"LitServe {dtype}", model, options, flags)


def lit_is_there(options: Options) -> bool:
    """LitServe lies beside the environment, or in it."""
    paths = [*sys.path, str(options.work / "site")]
    return any(metadata.distributions(name="litserve", path=paths))


def _peer(
    module: str, name: str, model: str, options: Options, flags: tuple[str, ...]
) -> ServerSpec:
    place = ("--model", model_folder(model, options), "--device", options.device)
    arguments = ("--port", "{port}", *place, *flags)
    return ServerSpec(name, module, arguments, "/health", peer=True)
