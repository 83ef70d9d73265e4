"""Figures of the fleet's drills, for docs/scaling.md."""

from __future__ import annotations

from collections.abc import Mapping

from tests.drills.figures import Figure, write_figures


def write_fleet_figures(name: str, figures: Mapping[str, Figure | str]) -> None:
    """Write ``build/drills/fleet-NAME.json``."""
    write_figures(f"fleet-{name}", figures, command="make test-ray")
