"""The report: figures reach their place on the page, and every place has its drill."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.drills.figures import Figure, read_figures, write_figures
from tests.drills.report import FLEET_PAGE, PAGE, PLACE, with_figures

EMPTY = (
    "# Page\n\n<!-- figures: one -->\n<!-- end -->\n\n<!-- figures: two -->\nold\n<!-- end -->\n"
)


def test_figures_reach_their_place_and_others_stay(tmp_path: Path) -> None:
    write_figures("one", {"p99": Figure("1.5 s", "at most 2 s"), "sent": "10"}, folder=tmp_path)
    page = with_figures(EMPTY, tmp_path)
    assert "| p99 | 1.5 s | at most 2 s |\n| sent | 10 |  |\n" in page
    drill = read_figures(tmp_path / "one.json")
    for fact in (drill.command, drill.machine, drill.date, drill.commit):
        assert fact in page
    assert "<!-- figures: two -->\nold\n<!-- end -->\n" in page
    assert with_figures(page, tmp_path) == page


def test_figures_without_a_place_are_an_error(tmp_path: Path) -> None:
    write_figures("three", {}, folder=tmp_path)
    with pytest.raises(ValueError, match="three"):
        with_figures(EMPTY, tmp_path)


def test_a_fleets_figures_have_a_page_of_their_own(tmp_path: Path) -> None:
    write_figures("one", {"mine": "1"}, folder=tmp_path)
    write_figures("fleet-kill", {"lost": "0"}, command="make test-ray", folder=tmp_path)
    place = "<!-- figures: fleet-kill -->\n<!-- end -->\n"
    assert "| lost | 0 |" in with_figures(place, tmp_path, fleet=True)
    assert "lost" not in with_figures(EMPTY, tmp_path)


def test_every_place_for_a_fleet_has_its_drill() -> None:
    folder = Path(__file__).parents[1] / "fleet" / "serving"
    drills = "".join(path.read_text(encoding="utf-8") for path in folder.glob("test_*.py"))
    places = [place[2] for place in PLACE.finditer(FLEET_PAGE.read_text(encoding="utf-8"))]
    assert places
    for name in places:
        named = name.removeprefix("fleet-")
        assert re.search(rf'write_fleet_figures\(\s*"{named}"', drills), name


def test_every_place_on_the_page_has_its_drill() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in (place[2] for place in PLACE.finditer(page)):
        text = (Path(__file__).parent / f"test_{name}.py").read_text(encoding="utf-8")
        assert "@pytest.mark.drill" in text, name
        assert re.search(rf'write_figures\(\s*"{name}"', text), name
