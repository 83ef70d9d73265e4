"""python -m service: settings -> service."""

from __future__ import annotations

import os
import signal
import sys

import structlog

from service.logs import configure_logs
from service.settings import SettingsError, read_settings, unknown_variables

THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "20000"}
"""Read when torch loads. Threads that wait for ever between two products starve a busy machine;
those that sleep at once double the time of a small tick. A fraction of a millisecond does."""


def main(arguments: list[str]) -> int:
    """Run the service; returns the process's exit code, 2 for a wrong setting."""
    try:
        settings = read_settings(arguments)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    configure_logs(settings.log_format)
    for line in unknown_variables(os.environ):
        structlog.get_logger().warning(line)
    for early in (signal.SIGINT, signal.SIGTERM):  # until the server takes them over
        signal.signal(early, lambda *_: os._exit(0))
    for name, value in THREADS.items():
        os.environ.setdefault(name, value)
    from service.launch import serve

    return serve(settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
