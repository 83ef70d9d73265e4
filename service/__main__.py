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
    configure_openmp()
    from service.launch import serve  # loads torch

    return serve(settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
