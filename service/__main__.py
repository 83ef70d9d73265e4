"""python -m service: read the settings, then serve."""

from __future__ import annotations

import logging
import os
import signal
import sys

import structlog

from service.http.keys.configure import key_ring_of
from service.images.signing.configure import signer_of
from service.listening import ListenError, open_metrics_sockets, open_sockets
from service.logs import capture_prints, configure_logs, unify_loggers
from service.output import secure_standard_streams
from service.settings import (
    LogFormat,
    SettingsError,
    read_log_format,
    read_settings,
    unknown_variables,
)
from service.signals import stop_signals
from service.threads import configure_openmp


def main(arguments: list[str]) -> int:
    """Run the service; returns the process's exit code: 2 if a setting is wrong."""
    secure_standard_streams()
    try:
        settings = read_settings(arguments)
        signer = signer_of(settings)
        keys = key_ring_of(settings, os.environ)
    except SettingsError as error:
        _open_log(read_log_format(arguments))
        print(error, file=sys.stderr)
        return 2
    _open_log(settings.log_format)
    for line in unknown_variables(os.environ):
        structlog.get_logger().warning(line)
    try:
        sockets = open_sockets(settings.host, settings.port)
        metrics_sockets = open_metrics_sockets(settings.metrics_address)
    except ListenError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if settings.api_keys_file is not None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the server reads the file again on it
    for number in stop_signals():  # until the server handles them
        signal.signal(number, lambda *_: _leave())
    heeded = {signal.SIGHUP, *stop_signals()}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, heeded)  # a parent may have blocked them
    configure_openmp()
    _keep_metrics_in_memory()
    from service.launch import serve  # loads torch

    unify_loggers()
    return serve(
        settings, sockets=sockets, metrics_sockets=metrics_sockets, signer=signer, keys=keys
    )


def _open_log(form: LogFormat) -> None:
    capture_prints(form, configure_logs(form).output)


def _leave() -> None:
    logging.shutdown()
    os._exit(0)


def _keep_metrics_in_memory() -> None:
    """Take away the variable that makes prometheus_client keep metrics in files, before its import.

    The files are for services of several processes. Ours would go on counting from an earlier
    process of the same id, which in a container is always 1.
    """
    for name in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
        if os.environ.pop(name, None) is not None:
            structlog.get_logger().warning(f"{name} is ignored: one process has all the metrics")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
