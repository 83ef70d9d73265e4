"""Catalogue: every suite by its name."""

from __future__ import annotations

from collections.abc import Callable

from bench.options import Options
from bench.suites.alone import Alone
from bench.suites.memory import Memory
from bench.suites.mixed import Mixed
from bench.suites.offline import Offline
from bench.suites.overhead import Overhead
from bench.suites.reproducible import Reproducible
from bench.suites.serving import Serving
from bench.suites.start import Start
from bench.suites.suite import Suite
from bench.suites.tick import Tick

SUITES: dict[str, Callable[[Options], Suite]] = {
    "tick": Tick.planned,
    "alone": Alone.planned,
    "offline": Offline.planned,
    "serving": Serving.planned,
    "mixed": Mixed.planned,
    "overhead": Overhead.planned,
    "start": Start.planned,
    "reproducible": Reproducible.planned,
    "memory": Memory.planned,
}

LONG = ("memory",)
"""Run only where they are named."""


def default_suites() -> list[str]:
    return [name for name in SUITES if name not in LONG]
