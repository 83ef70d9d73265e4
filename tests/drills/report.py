"""Report: `python -m tests.drills.report` puts the figures in build/drills into docs/reliability.md.

The page holds a drill's figures between two comments, ``figures: NAME`` and ``end``. Those of a drill
that has no file in build/drills stay as they are.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.drills.figures import FOLDER, Drill, read_figures

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
PLACE = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(drill: Drill) -> str:
    """A table, and the line that says where it is from."""
    rows = [f"| {what} | {one.measured} | {one.promised} |" for what, one in drill.figures.items()]
    source = f"`{drill.command}`, {drill.date}, commit {drill.commit}; {drill.machine}."
    return "\n".join([source, "", "| | measured | promised |", "|---|---|---|", *rows, ""])


def with_figures(page: str, folder: Path) -> str:
    """The page with the figures of every drill that has a file in ``folder``.

    Raises:
        ValueError: the page has no place for one of them.
    """
    drills = {path.stem: read_figures(path) for path in folder.glob("*.json")}
    homeless = drills.keys() - {place[2] for place in PLACE.finditer(page)}
    if homeless:
        raise ValueError(f"no place on the page for {', '.join(sorted(homeless))}")

    def fill(place: re.Match[str]) -> str:
        drill = drills.get(place[2])
        return place[0] if drill is None else f"{place[1]}\n{render(drill)}\n{place[3]}"

    return PLACE.sub(fill, page)


if __name__ == "__main__":
    PAGE.write_text(with_figures(PAGE.read_text(encoding="utf-8"), FOLDER), encoding="utf-8")
