"""Signals: which ones stop the service."""

from __future__ import annotations

import signal

ALWAYS = (signal.SIGINT, signal.SIGTERM)
UNLESS_IGNORED = (signal.SIGHUP, signal.SIGQUIT)
"""`nohup` ignores SIGHUP, and shells ignore SIGQUIT in background jobs, before the service starts."""


def stop_signals() -> list[signal.Signals]:
    """The signals on which the service drains."""
    heeded = [each for each in UNLESS_IGNORED if signal.getsignal(each) is not signal.SIG_IGN]
    return [*ALWAYS, *heeded]
