"""PlanTable: how many devices for how many images a second, written into a document between two markers.

python -m bench plan --table writes docs/scaling.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.simulate.curve import TickCurve
from bench.simulate.plan import REQUESTS, Plan, plan
from bench.simulate.traffic import arrivals

RATES = (1, 3, 10, 30, 100, 300, 1000)
WISHES = ((10, 1.0), (20, 1.0), (50, 2.0))
"""Steps of an image, and seconds that p95 may take."""

BEGIN, END = "<!-- plan: begin -->", "<!-- plan: end -->"
HEADING = "How many GPUs"


def planned_table(
    curve: TickCurve, rates: Sequence[int] = RATES, requests: int = REQUESTS
) -> list[str]:
    """Lines of Markdown, one of the table for each rate."""
    rows = []
    for rate in rates:
        plans = [plan(curve, arrivals(rate, steps, requests), p95) for steps, p95 in WISHES]
        rows.append(f"| {rate:,} | {' | '.join(_cell(each, rate) for each in plans)} |")
    wishes = " | ".join(f"{steps} steps, p95 {p95:g} s" for steps, p95 in WISHES)
    return [f"| images/s | {wishes} |", f"|---|{'---|' * len(WISHES)}", *rows]


def write_table(path: Path, lines: Sequence[str]) -> None:
    """Replace what is between the markers; without them, append a section with them."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if BEGIN not in text:
        text += f"\n## {HEADING}\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    block = "\n".join((BEGIN, *lines, END))
    path.write_text(f"{before}{block}{after}", encoding="utf-8")


def _cell(planned: Plan, rate: int) -> str:
    hours = planned.devices / rate / 3.6  # of one device, for a thousand images
    return f"{planned.devices} ({planned.latencies.p95:.2g} s, {hours:.2g} h)"
