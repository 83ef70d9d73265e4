"""Catalogue: every suite by its name, in the order of the report."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from bench.options import Options
from bench.report.figures import Measured
from bench.suites.agree import Agree, AgreeModel
from bench.suites.alone import Alone
from bench.suites.offline import Offline
from bench.suites.operation import Operation
from bench.suites.overhead import Overhead
from bench.suites.quality import Quality
from bench.suites.serving import Serving
from bench.suites.simulate import Simulate
from bench.suites.tick import Tick


class Suite(Protocol):
    """A frozen dataclass: its docstring introduces it in the report, its fields are the plan."""

    @classmethod
    def planned(cls, options: Options) -> Suite: ...

    def run(self, options: Options) -> Measured: ...


SUITES: dict[str, type[Suite]] = {
    "quality": Quality,
    "tick": Tick,
    "alone": Alone,
    "offline": Offline,
    "serving": Serving,
    "simulate": Simulate,
    "agree": Agree,
    "agree-model": AgreeModel,
    "overhead": Overhead,
    "operation": Operation,
}


def plan_of(suite: Suite) -> str:
    """The plan in one line, for --dry-run and for the result."""
    assert dataclasses.is_dataclass(suite), "this is a bug: a suite's plan is its fields"
    return ", ".join(
        f"{field.name} {_shown(getattr(suite, field.name))}" for field in dataclasses.fields(suite)
    )


def _shown(value: object) -> str:
    return "/".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
