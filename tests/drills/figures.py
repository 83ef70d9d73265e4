"""Figures: what the long form of a drill measured, with the command, machine, commit and date."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.report import machine

FOLDER = Path(__file__).parents[2] / "build" / "drills"


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of a drill's table: what was measured, and what was promised of it, if anything."""

    measured: str
    promised: str = ""


@dataclass(frozen=True, slots=True)
class Drill:
    """One run of a drill's long form."""

    command: str
    machine: str
    commit: str
    date: str
    figures: Mapping[str, Figure]


def command_of(name: str) -> str:
    """What runs the long form of the drill in tests/drills/test_NAME.py."""
    return f"make drill ARGS=tests/drills/test_{name}.py"


def write_figures(
    name: str,
    figures: Mapping[str, Figure | str],
    *,
    command: str | None = None,
    folder: Path = FOLDER,
) -> None:
    """Write ``build/drills/NAME.json``, which `tests.drills.report` puts into docs/reliability.md.

    Args:
        name: the drill's, as in the name of its file, ``test_NAME.py``.
        figures: by what they say, in the order of the table; a string was promised nothing.
        command: what ran the drill; by default `command_of` the name.
    """
    rows = {what: one if isinstance(one, Figure) else Figure(one) for what, one in figures.items()}
    drill = Drill(
        command or command_of(name),
        f"{machine.cpu_name()}, {machine.cores()} cores",
        machine.commit(),
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        rows,
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(asdict(drill), indent=1) + "\n", encoding="utf-8")


def read_figures(path: Path) -> Drill:
    """What `write_figures` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    rows = {what: Figure(**one) for what, one in content.pop("figures").items()}
    return Drill(**content, figures=rows)
