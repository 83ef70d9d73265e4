"""Logs: one line per event on standard error, from us and from the libraries alike."""

from __future__ import annotations

import faulthandler
import io
import logging
import os
import re
import sys
import threading
from types import TracebackType
from typing import Literal

import structlog

from service.output import STDERR, Output
from service.printable import make_printable

LogFormat = Literal["json", "console"]

FLUSH_S = 1.0
"""How long the process's end waits for its last lines to be read."""

_LEAST = {"httpx": logging.WARNING, "httpx2": logging.WARNING, "uvicorn": logging.ERROR}
"""Libraries whose lines below these levels say nothing that ours do not. uvicorn warns of each request
that is broken, which has its line already."""


_SECRETS = (
    # A user and password before the host; a signature behind the path. As a path, a URL has lost a slash.
    (re.compile(r"([a-z][a-z0-9+.-]*:/{1,2})[^/\s\"'\\@]+@", re.IGNORECASE), r"\1***@"),
    (re.compile(r"(https?:/{1,2}[^\s\"'\\?]+\?)[^\s\"'\\]+", re.IGNORECASE), r"\1***"),
    (re.compile(r"\bhf_[A-Za-z0-9]{8,}"), "hf_***"),
    (re.compile(r"\bditkey_[A-Za-z0-9_-]{8,}"), "ditkey_***"),
)
"""Users and passwords in URLs, signatures in their queries, the hub's tokens, and API keys that
`service.http.keys` has made. As a path, a URL has lost one of its slashes."""


def hide_secrets(text: str) -> str:
    """Text as it may be printed."""
    token = os.environ.get("HF_TOKEN", "")
    if len(token) >= 8:
        text = text.replace(token, "***")
    if ":/" in text or "hf_" in text or "ditkey_" in text:
        for pattern, shown in _SECRETS:
            text = pattern.sub(shown, text)
    return text


class OutputHandler(logging.Handler):
    """Hands records to an `Output`; `logging.shutdown` flushes it."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self.output = Output(fd, self._notice)

    def emit(self, record: logging.LogRecord) -> None:
        """Format a record and hand it over; never waits."""
        try:
            self.output.write(hide_secrets(self.format(record)) + "\n")
        except Exception:  # noqa: BLE001 - as every handler of the standard library
            self.handleError(record)

    def flush(self) -> None:
        """Wait for what was handed over, but not for long."""
        self.output.flush(FLUSH_S)

    def _notice(self, dropped: int) -> str:
        record = logging.LogRecord(
            __name__, logging.WARNING, __file__, 0, "%d log lines were dropped", (dropped,), None
        )
        return self.format(record) + "\n"


class PrintedText(io.TextIOBase):
    """Takes the place of sys.stdout or sys.stderr: each printed line becomes an event.

    Args:
        level: of the events.
    """

    def __init__(self, level: int) -> None:
        self._level = level
        self._line = ""
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        """Take text. A line that was overwritten, as progress bars do, is not an event."""
        with self._lock:
            *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            shown = line.rstrip("\r").rpartition("\r")[2]
            if shown.strip():
                logging.getLogger("printed").log(self._level, "%s", shown)
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return STDERR


class PlainText(io.TextIOBase):
    """Takes the place of sys.stdout or sys.stderr: the text goes to the output as it is."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def write(self, text: str) -> int:
        """Take text."""
        self._output.write(hide_secrets(text))
        return len(text)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(STDERR)

    def fileno(self) -> int:
        return STDERR


def configure_logs(form: LogFormat) -> OutputHandler:
    """Send every log line of the process, warnings and uncaught exceptions through one renderer."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,  # the request id
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = OutputHandler(STDERR)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                *_rendering(form),
            ],
            foreign_pre_chain=shared,
        )
    )
    handler.output.start()
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name, level in _LEAST.items():
        logging.getLogger(name).setLevel(level)
    _log_uncaught_exceptions()
    faulthandler.enable(STDERR, all_threads=False)  # where native code was when a signal ended it
    return handler


def capture_prints(form: LogFormat, output: Output) -> None:
    """Send what is printed the same way. With JSON there are no progress bars."""
    if form == "json":
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
        sys.stdout, sys.stderr = PrintedText(logging.INFO), PrintedText(logging.ERROR)
    else:
        sys.stdout = sys.stderr = PlainText(output)


def unify_loggers() -> None:
    """Send to our handler what libraries, once imported, would print by handlers of their own."""
    for name in list(logging.root.manager.loggerDict):
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            if type(handler) is logging.StreamHandler:
                logger.removeHandler(handler)
                logger.propagate = True


def dropped_lines() -> int:
    """How many lines had no room or reader since the start."""
    handlers = logging.getLogger().handlers
    return sum(one.output.dropped for one in handlers if isinstance(one, OutputHandler))


def _rendering(form: LogFormat) -> list[structlog.typing.Processor]:
    if form == "json":
        return [structlog.processors.JSONRenderer()]
    renderer = structlog.dev.ConsoleRenderer(
        colors=os.isatty(STDERR),
        exception_formatter=structlog.dev.plain_traceback,  # others print every local variable
    )
    return [make_printable, renderer]


def _log_uncaught_exceptions() -> None:
    log = structlog.get_logger()

    def in_main(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        log.critical("the service failed", exc_info=(kind, error, trace))

    def in_thread(failed: threading.ExceptHookArgs) -> None:
        name = failed.thread.name if failed.thread else "unknown"
        log.error("a thread failed", thread=name, exc_info=failed.exc_value)

    def in_clean_up(failed: sys.UnraisableHookArgs) -> None:
        log.warning(failed.err_msg or "an exception was ignored", exc_info=failed.exc_value)

    sys.excepthook, threading.excepthook, sys.unraisablehook = in_main, in_thread, in_clean_up
