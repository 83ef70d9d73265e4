"""python -m service: read the settings, then serve."""

from __future__ import annotations

import os
import signal
import sys

import structlog

from service.logs import configure_logs
from service.settings import SettingsError, read_settings, unknown_variables
from service.signals import stop_signals
from service.threads import configure_openmp


def main(arguments: list[str]) -> int:
    """Run the service; returns the process's exit code: 2 if a setting is wrong."""
    try:
        settings = read_settings(arguments)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    configure_logs(settings.log_format)
    for line in unknown_variables(os.environ):
        structlog.get_logger().warning(line)
    for number in stop_signals():  # until the server handles them
        signal.signal(number, lambda *_: os._exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, stop_signals())  # a parent may have blocked them
    configure_openmp()
    _keep_metrics_in_memory()
    from service.launch import serve  # loads torch

    return serve(settings)


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
