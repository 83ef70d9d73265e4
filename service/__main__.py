"""python -m service: read the settings, then serve."""

from __future__ import annotations

import logging
import os
import signal
import sys

import structlog

from service.listening import ListenError, open_sockets
from service.logs import capture_prints, configure_logs, unify_loggers
from service.output import secure_standard_streams
from service.settings import (
    LogFormat,
    SettingsError,
    read_log_format,
    read_settings,
    unknown_variables,
)
from service.threads import configure_openmp


def main(arguments: list[str]) -> int:
    """Run the service; returns the process's exit code: 2 if a setting is wrong."""
    secure_standard_streams()
    try:
        settings = read_settings(arguments)
    except SettingsError as error:
        _open_log(read_log_format(arguments))
        print(error, file=sys.stderr)
        return 2
    _open_log(settings.log_format)
    for line in unknown_variables(os.environ):
        structlog.get_logger().warning(line)
    try:
        sockets = open_sockets(settings.host, settings.port)
    except ListenError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for number in (signal.SIGINT, signal.SIGTERM):  # until the server handles them
        signal.signal(number, lambda *_: _leave())
    configure_openmp()
    from service.launch import serve  # loads torch

    unify_loggers()
    return serve(settings, sockets=sockets)


def _open_log(form: LogFormat) -> None:
    capture_prints(form, configure_logs(form).output)


def _leave() -> None:
    logging.shutdown()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
