"""Suite: what the command line asks of each."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from bench.options import Options
from bench.report.figures import Measured


class Suite(Protocol):
    """A frozen dataclass whose fields say what will be measured."""

    def run(self, options: Options) -> Measured:
        """Measure it."""


def plan_of(suite: Suite) -> str:
    """The plan in one line, for --dry-run and for the result."""
    assert dataclasses.is_dataclass(suite), "this is a bug: a suite's plan is its fields"
    return ", ".join(
        f"{field.name} {_shown(getattr(suite, field.name))}" for field in dataclasses.fields(suite)
    )


def _shown(value: object) -> str:
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)
