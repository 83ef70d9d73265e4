"""Serving: settings -> engine -> HTTP, until a signal or the engine ends it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import structlog
import torch

from model.device import choose_device, choose_dtype
from model.runner.build import build_runner
from model.runner.runner import ModelRunner
from model.weights.checkpoint import load_checkpoint
from service.engine.engine import Engine
from service.engine.watchdog import PATIENCE, EngineHung, Patience
from service.http.app import create_app
from service.http.server import Server
from service.images.order import RequestLimits
from service.metrics import Metrics
from service.scheduling.admission import AdmissionQueue
from service.scheduling.fair import FairScheduler
from service.scheduling.scheduler import Scheduler
from service.settings import Settings

MAX_ROWS = {"cuda": 128, "cpu": 32}


def serve(
    settings: Settings,
    load: Callable[[Settings], ModelRunner] | None = None,
    patience: Patience = PATIENCE,
    make_scheduler: Callable[[int, int], Scheduler] = FairScheduler,
) -> int:
    """Run until a signal or the engine ends it; returns the process's exit code.

    Args:
        load: builds the runner in place of `load_runner`.
        patience: how long the engine may show no sign of life.
        make_scheduler: the policy, as `Engine` takes it.
    """
    metrics = Metrics()
    queue = AdmissionQueue(settings.max_queue_row_steps)
    engine = Engine(
        lambda: (load or load_runner)(settings),
        queue,
        metrics,
        drain_timeout_s=settings.drain_timeout_s,
        patience=patience,
        make_scheduler=make_scheduler,
    )
    app = create_app(engine, metrics, policy_of(settings), max_body_bytes=settings.max_body_bytes)
    server = Server(app, engine, host=settings.host, port=settings.port)
    engine.start(on_end=server.leave)
    try:
        server.run()
    except SystemExit:  # it cannot listen, and its log line says why
        code = 1
    else:
        code = exit_code(engine)
    if engine.alive or (engine.was_ready and code):
        # its thread is inside the libraries, or the device is gone: let them lie
        sys.stderr.flush()
        os._exit(code)
    return code


def load_runner(settings: Settings) -> ModelRunner:
    """Bring the configured model onto the configured device.

    Raises:
        ValueError: the device is not there, or a file is not what it should be.
    """
    device = choose_device(settings.device)
    if settings.reproducible:
        round_threads()
    checkpoint = load_checkpoint(
        settings.model,
        device=device,
        dtype=choose_dtype(settings.dtype, device),
        vae=settings.vae,
        classes=settings.classes,
        report=structlog.get_logger().info,
    )
    max_rows = settings.max_rows or MAX_ROWS[device.type]
    return build_runner(
        checkpoint,
        max_rows=max_rows,
        reproducible=settings.reproducible,
        compile=settings.compile,
        consume=True,
    )


def round_threads() -> None:
    """Take a power of two of threads.

    torch cuts an elementwise operation into as many pieces, and the last bit of a number can depend
    on its place in a piece: so the cuts have to fall between images.
    """
    torch.set_num_threads(1 << (torch.get_num_threads().bit_length() - 1))


def policy_of(settings: Settings) -> RequestLimits:
    return RequestLimits(
        max_images=settings.max_images_per_request,
        timeout_s=settings.request_timeout_s,
        cfg_scale=settings.default_cfg_scale,
        num_sampling_steps=settings.default_steps,
        sampler=settings.default_sampler,
        reproducible=settings.reproducible,
    )


def exit_code(engine: Engine) -> int:
    """0 after a stop; 1 after a failure, told in one line where it is the user's to mend."""
    failure = engine.failure
    if failure is None:
        return 0
    if isinstance(failure, EngineHung):
        return 1  # the log has it since then
    if isinstance(failure, ValueError) and not engine.was_ready:
        print(f"cannot start: {failure}", file=sys.stderr)
    else:
        structlog.get_logger().error("the engine died", exc_info=failure)
    return 1
