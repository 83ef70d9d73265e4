"""Launch: start the engine and the HTTP server from the settings, and run until they end."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from fastapi import FastAPI

from model.runner.runner import ModelRunner, OutOfMemory
from service.engine.engine import Engine
from service.engine.model_info import ModelInfo
from service.engine.watchdog import PATIENCE, EngineHung, Patience
from service.errors import InvalidRequest
from service.http.app import create_app
from service.http.connections.descriptors import raise_descriptor_limit
from service.http.connections.limits import ConnectionLimits
from service.http.connections.record import ConnectionRecord
from service.http.guards.hosts import default_names
from service.http.keys.key_ring import KeyRing
from service.http.keys.key_watch import KeyWatch
from service.http.metrics_port.app import create_metrics_app
from service.http.metrics_port.listener import MetricsPort
from service.http.server import Server
from service.images.limits import RequestLimits
from service.images.order import take_order
from service.images.request import GenerateRequest
from service.images.signing.signer import Signer
from service.listening import open_metrics_sockets, open_sockets, url_of, write_address
from service.load_model import load_runner, report_download
from service.logs import dropped_lines
from service.metrics import Metrics
from service.scheduling.admission import AdmissionQueue
from service.scheduling.fair import fair_scheduler
from service.scheduling.scheduler import MakeScheduler
from service.settings import Settings
from service.tracing.spans import Tracing, open_tracing

EXPIRES_SOON = timedelta(days=30)

log = structlog.get_logger()


def serve(
    settings: Settings,
    load: Callable[[Settings], ModelRunner] = load_runner,
    patience: Patience = PATIENCE,
    make_scheduler: MakeScheduler = fair_scheduler,
    sockets: list[socket.socket] | None = None,
    metrics_sockets: list[socket.socket] | None = None,
    signer: Signer | None = None,
    keys: KeyRing | None = None,
) -> int:
    """Run until a signal arrives or the engine ends; returns the process's exit code.

    Args:
        load: builds the runner.
        patience: how long the engine may show no sign of life, as for `Engine`.
        make_scheduler: builds the scheduler, as for `Engine`.
        sockets: where to listen, if they are open already.
        metrics_sockets: the same for the metrics' own port; empty if it has none.
        signer: signs finished images.
        keys: the API keys, if requests need one.

    Raises:
        ListenError: the host or the port cannot be listened on.
    """
    sockets = sockets or open_sockets(settings.host, settings.port)
    if metrics_sockets is None:
        metrics_sockets = open_metrics_sockets(settings.metrics_address)
    url = url_of(sockets)
    if settings.address_file is not None:
        tell_address(settings.address_file, url)
    tracing = open_tracing(os.environ)
    parts = build_parts(
        settings,
        load,
        patience=patience,
        make_scheduler=make_scheduler,
        tracing=tracing,
        signer=signer,
        keys=keys,
        serve_metrics=not metrics_sockets,
        on_ready=lambda info, limits: log_ready(url, info, limits),
    )
    app, engine, metrics = parts.app, parts.engine, parts.metrics
    watch = watch_keys(settings, keys, metrics)
    server = Server(
        app,
        engine,
        host=settings.host,
        port=settings.port,
        limits=connection_limits_of(settings),
        lame_duck_s=settings.lame_duck_s,
        metrics_port=metrics_port_of(settings, metrics, metrics_sockets),
        on_hangup=watch.read_again if watch is not None else None,
    )
    raise_descriptor_limit()
    if signer is not None:
        log_signing(signer.expires)
    engine.start()
    try:
        server.run(sockets)
    except SystemExit:  # uvicorn cannot start, and has logged why
        code = 1
    else:
        code = exit_code(engine)
    if watch is not None:
        watch.stop()
    if tracing is not None:
        tracing.close()
    if engine.alive or (engine.was_ready and code):
        # The thread hangs in the device's libraries, or the device is gone: skip their clean-up.
        logging.shutdown()
        os._exit(code)
    return code


@dataclass(frozen=True, slots=True)
class Parts:
    """A service without its sockets."""

    app: FastAPI
    engine: Engine
    queue: AdmissionQueue
    metrics: Metrics


def build_parts(
    settings: Settings,
    load: Callable[[Settings], ModelRunner],
    *,
    patience: Patience = PATIENCE,
    make_scheduler: MakeScheduler = fair_scheduler,
    tracing: Tracing | None = None,
    signer: Signer | None = None,
    keys: KeyRing | None = None,
    serve_metrics: bool = True,
    on_ready: Callable[[ModelInfo, RequestLimits], None],
) -> Parts:
    """Build the engine, which the caller starts and stops, and the application around it."""
    metrics = Metrics(dropped_lines)
    metrics.row_steps_limit.set(settings.max_queue_row_steps)
    report_download(settings, metrics)
    limits = limits_of(settings)
    queue = AdmissionQueue(settings.max_queue_row_steps)
    engine = Engine(
        lambda: load(settings),
        queue,
        metrics,
        drain_timeout_s=settings.drain_timeout_s,
        patience=patience,
        make_scheduler=make_scheduler,
        on_ready=lambda info: on_ready(info, limits),
    )
    app = create_app(
        engine,
        metrics,
        limits,
        max_body_bytes=settings.max_body_bytes,
        allowed_hosts=settings.allowed_hosts or default_names(settings.host),
        cors_origins=settings.cors_origins,
        trusted_proxies=settings.trusted_proxies,
        tracing=tracing,
        signer=signer,
        serve_metrics=serve_metrics,
        keys=keys,
        metrics_without_key=settings.metrics_without_key,
    )
    return Parts(app, engine, queue, metrics)


def metrics_port_of(
    settings: Settings, metrics: Metrics, sockets: list[socket.socket]
) -> MetricsPort | None:
    """The metrics' own port, if it has sockets; the log says where it is."""
    if not sockets or settings.metrics_address is None:
        return None
    host, _ = settings.metrics_address
    log.info("metrics", url=f"{url_of(sockets)}/metrics")
    return MetricsPort(
        create_metrics_app(metrics, allowed_hosts=settings.allowed_hosts or default_names(host)),
        sockets,
        limits=connection_limits_of(settings),
        record=ConnectionRecord(metrics),
    )


def log_ready(url: str, info: ModelInfo, limits: RequestLimits) -> None:
    """Say where the service is and what it serves; a warning if the model cannot do the defaults."""
    try:
        take_order(GenerateRequest(class_label=0), info, limits)
    except InvalidRequest as error:
        text = "the default settings do not suit the model: requests that name only a class get 422"
        log.warning(text, reason=error.detail)
    log.info("ready", url=url, model=info.name, device=info.device, digest=info.digest)


def watch_keys(settings: Settings, keys: KeyRing | None, metrics: Metrics) -> KeyWatch | None:
    """Say that keys are needed, and watch their file if they are from one."""
    if keys is None:
        return None
    log.info("requests need an API key", keys=len(keys.keys))
    if settings.api_keys_file is None:
        return None
    watch = KeyWatch(settings.api_keys_file, keys, metrics)
    watch.start()
    return watch


def log_signing(expires: datetime) -> None:
    """Say until when pictures are signed; a warning if that is soon."""
    soon = expires - datetime.now(UTC) < EXPIRES_SOON
    tell = log.warning if soon else log.info
    tell("pictures are signed", until=expires.isoformat(sep=" ", timespec="minutes"))


def tell_address(path: Path, url: str) -> None:
    """Write the address to a file; that it cannot be written does not end the start."""
    try:
        write_address(path, url)
    except OSError as error:
        log.warning(f"DIT_ADDRESS_FILE (--address-file) is {str(path)!r}: {error.strerror}")


def limits_of(settings: Settings) -> RequestLimits:
    return RequestLimits(
        max_images=settings.max_images_per_request,
        timeout_s=settings.request_timeout_s,
        cfg_scale=settings.default_cfg_scale,
        quality=settings.default_quality,
        num_sampling_steps=settings.default_steps,
        sampler=settings.default_sampler,
        reproducible=settings.reproducible,
        cfg_channels=settings.cfg_channels,
    )


def connection_limits_of(settings: Settings) -> ConnectionLimits:
    return ConnectionLimits(
        max_connections=settings.max_connections,
        head_s=settings.head_timeout_s,
        body_s=settings.body_timeout_s,
        send_s=settings.send_timeout_s,
        keep_alive_s=settings.keep_alive_s,
    )


def exit_code(engine: Engine) -> int:
    """0 after a stop; 1 after a failure, reported in one line if the user can fix it."""
    failure = engine.failure
    if failure is None:
        return 0
    if isinstance(failure, EngineHung):
        return 1  # the engine has logged it
    if isinstance(failure, (ValueError, OutOfMemory)) and not engine.was_ready:
        line = str(failure).strip().partition("\n")[0]
        print(f"cannot start: {line}", file=sys.stderr)
    else:
        log.error("the engine died", exc_info=failure)
    return 1
