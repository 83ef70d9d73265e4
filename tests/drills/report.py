"""Report: `python -m tests.drills.report` puts the figures in build/drills into the pages of docs.

Those of a fleet's drills, whose names begin with ``fleet-``, are in scaling.md, all others in reliability.md. A page holds a drill's figures between two comments, ``figures: NAME`` and ``end``. Those of a drill
that has no file in build/drills stay as they are.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.drills.figures import FOLDER, Drill, read_figures

DOCS = Path(__file__).parents[2] / "docs"
PAGE, FLEET_PAGE = DOCS / "reliability.md", DOCS / "scaling.md"
FLEET = "fleet-"
PLACE = re.compile(r"(<!-- figures: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(drill: Drill) -> str:
    """A table, and the line that says where it is from."""
    rows = [f"| {what} | {one.measured} | {one.promised} |" for what, one in drill.figures.items()]
    source = f"`{drill.command}`, {drill.date}, commit {drill.commit}; {drill.machine}."
    return "\n".join([source, "", "| | measured | promised |", "|---|---|---|", *rows, ""])


def with_figures(page: str, folder: Path, *, fleet: bool = False) -> str:
    """The page with the figures of every drill, or of every drill of a fleet, that has a file in ``folder``.

    Raises:
        ValueError: the page has no place for one of them.
    """
    files = (path for path in folder.glob("*.json") if path.stem.startswith(FLEET) == fleet)
    drills = {path.stem: read_figures(path) for path in files}
    homeless = drills.keys() - {place[2] for place in PLACE.finditer(page)}
    if homeless:
        raise ValueError(f"no place on the page for {', '.join(sorted(homeless))}")

    def fill(place: re.Match[str]) -> str:
        drill = drills.get(place[2])
        return place[0] if drill is None else f"{place[1]}\n{render(drill)}\n{place[3]}"

    return PLACE.sub(fill, page)


if __name__ == "__main__":
    for page, of_fleet in ((PAGE, False), (FLEET_PAGE, True)):
        text = with_figures(page.read_text(encoding="utf-8"), FOLDER, fleet=of_fleet)
        page.write_text(text, encoding="utf-8")
