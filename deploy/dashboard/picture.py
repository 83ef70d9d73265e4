"""Draw the dashboard: its panels, with what a real Prometheus scraped from a service under load.

python -m deploy.dashboard.picture docs/dashboard.png

This is not Grafana: matplotlib draws the same queries in the same places. Where there is no GPU, the
counters of NVIDIA's exporter are a stand-in's, and their panels say so.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import tempfile
import time
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from bench.load.servers import PORT, ServerSpec, running_server
from deploy.dashboard.__main__ import COLUMNS
from deploy.dashboard.dcgm import stand_in
from deploy.dashboard.load import KEY_LIST, load
from deploy.dashboard.panels import COLOURS, ROWS, Panel, Query
from deploy.dashboard.prometheus import Line, Prometheus, Series, running_prometheus, wait_for

STEP_S = 2.0
RATE_INTERVAL = "20s"
LOAD_S = 150.0
REST_S = 20.0
UNIT_INCHES = 0.62, 0.44
SMALL, TITLE = 6, 8
LONGEST_LEGEND = 5

SUFFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
MULTIPLES = {
    "percentunit": (100.0, "%"),
    "percent": (1.0, "%"),
    "ops": (1.0, "/s"),
    "reqps": (1.0, "/s"),
}


class Window:
    """A Prometheus, and the time that the picture shows."""

    def __init__(self, prometheus: Prometheus, begin: float, end: float) -> None:
        self._prometheus = prometheus
        self.begin = begin
        self.end = end

    def lines(self, query: Query) -> list[Line]:
        return self._prometheus.query_range(_filled(query.expr), self.begin, self.end, STEP_S)

    def last(self, query: Query) -> list[tuple[Series, float]]:
        # Under load, as the last point of the lines.
        found = self._prometheus.query(_filled(query.expr), self.end - REST_S)
        return [(sample.labels, sample.value) for sample in found]


def _filled(expr: str) -> str:
    return expr.replace("$__rate_interval", RATE_INTERVAL).replace("$instance", ".*")


def shown(value: float, unit: str) -> str:
    """A number as Grafana would abbreviate it."""
    if unit == "bool_yes_no":
        return "Yes" if value else "No"
    if unit == "s":
        return _seconds(value)
    if unit == "bytes":
        return next((f"{value / size:.3g} {name}iB" for size, name in _BYTES if value >= size), "0")
    factor, suffix = MULTIPLES.get(unit, (1.0, ""))
    value *= factor
    for size, name in SUFFIXES:
        if abs(value) >= size:
            return f"{value / size:.3g}{name}{suffix}"
    return f"{value:.3g}{suffix}"


_BYTES = ((1024.0**3, "G"), (1024.0**2, "M"), (1024.0, "k"))


def _seconds(value: float) -> str:
    if value == 0 or value >= 1:
        return f"{value:.3g} s" if value < 60 else f"{value / 60:.3g} min"
    return f"{value * 1e3:.3g} ms"


def named(legend: str, labels: Series) -> str:
    """A legend with its labels filled in; Prometheus leaves out those that are empty."""
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), legend).strip()


def draw_lines(axes: Axes, panel: Panel, window: Window) -> None:
    """Lines over the minutes of the window; stacked ones as areas."""
    found = [
        (named(query.legend, line.labels), line)
        for query in panel.queries
        for line in window.lines(query)
    ]
    if panel.stacked and found:
        _draw_stacked(axes, found, window)
    else:
        for name, line in found:
            minutes = [(at - window.begin) / 60 for at in line.times]
            values = [value if math.isfinite(value) else math.nan for value in line.values]
            axes.plot(minutes, values, linewidth=0.9, label=name, color=COLOURS.get(name))
    axes.set_xlim(0, (window.end - window.begin) / 60)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, panel.unit)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} min"))
    axes.tick_params(labelsize=SMALL, length=2)
    axes.grid(linewidth=0.3)
    if found:
        columns = min(len(found), LONGEST_LEGEND)
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.13),
            fontsize=SMALL,
            ncols=columns,
            frameon=False,
        )


def _draw_stacked(axes: Axes, found: list[tuple[str, Line]], window: Window) -> None:
    count = round((window.end - window.begin) / STEP_S) + 1
    times = [window.begin + STEP_S * index for index in range(count)]
    heights = []
    for _, line in found:
        known = {round(at): value for at, value in zip(line.times, line.values)}
        values = [known.get(round(at), 0.0) for at in times]
        heights.append([value if math.isfinite(value) else 0.0 for value in values])
    minutes = [(at - window.begin) / 60 for at in times]
    names = [name for name, _ in found]
    areas = axes.stackplot(minutes, heights, labels=names, alpha=0.75)
    for name, area in zip(names, areas):
        if name in COLOURS:
            area.set_facecolor(COLOURS[name])


def draw_text(axes: Axes, panel: Panel, window: Window) -> None:
    """The number of a stat, or the labels of a table."""
    axes.set_xticks([])
    axes.set_yticks([])
    (query,) = panel.queries
    found = window.last(query)
    if panel.kind == "table":
        hidden = {"__name__", "job", "digest"}
        rows = [
            f"{name}: {text}" for name, text in sorted(found[0][0].items()) if name not in hidden
        ]
        axes.text(0.03, 0.5, "\n".join(rows), fontsize=SMALL, va="center", family="monospace")
        return
    labels, value = found[0]
    text = named(query.legend, labels) if query.legend else shown(value, panel.unit)
    axes.text(0.5, 0.45, text, fontsize=16, ha="center", va="center")


def figure(window: Window, note: str) -> Figure:
    """All rows, each panel in its place."""
    units = (
        sum(1 + row.height * -(-sum(each.width for each in row.panels) // COLUMNS) for row in ROWS)
        + 2
    )
    width, height = COLUMNS * UNIT_INCHES[0], units * UNIT_INCHES[1]
    drawn, top = Figure(figsize=(width, height), dpi=100), 1.0
    drawn.text(0.01, 1 - 0.6 / units, note, fontsize=TITLE, va="center", color="dimgray")
    for row in ROWS:
        drawn.text(
            0.01, 1 - (top + 0.6) / units, row.title, fontsize=11, weight="bold", va="center"
        )
        left, top = 0, top + 1
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                left, top = 0, top + row.height
            _draw(drawn, panel, window, (left, top, row.height), units)
            left += panel.width
        top += row.height
    return drawn


def _draw(
    drawn: Figure, panel: Panel, window: Window, place: tuple[float, float, float], units: float
) -> None:
    left, top, height = place
    text = panel.kind != "timeseries"
    x, y = (
        (left + (0.2 if text else 1.2)) / COLUMNS,
        1 - (top + height - (0.3 if text else 1.7)) / units,
    )
    size = (
        (panel.width - (0.4 if text else 1.6)) / COLUMNS,
        (height - (1.2 if text else 2.6)) / units,
    )
    axes = drawn.add_axes((x, y, *size))
    axes.set_title(panel.title, fontsize=TITLE, loc="left", pad=3)
    (draw_text if text else draw_lines)(axes, panel, window)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the dashboard from a service under load.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=LOAD_S, help="how long the load lasts")
    options = parser.parse_args()
    settings = {
        "DIT_PORT": PORT,
        "DIT_MAX_QUEUE_ROW_STEPS": "400",
        "DIT_API_KEYS": KEY_LIST,
        "DIT_METRICS_WITHOUT_KEY": "true",
    }
    service = ServerSpec("service", environment=os.environ | settings, log=Path(os.devnull))
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(service) as server,
        stand_in() as dcgm,
        running_prometheus(
            Path(folder), {"dit": server.url.removeprefix("http://"), "dcgm": dcgm}, interval_s=2
        ) as prometheus,
    ):
        wait_for(prometheus, "dit_ready == 1", REST_S)
        begin = time.time()
        load(server.url.removeprefix("http://"), options.seconds)
        time.sleep(REST_S)
        note = (
            "Drawn by deploy/dashboard/picture.py, not by Grafana: the bundled model on a CPU under a mixed "
            "load. There is no GPU here: the counters of NVIDIA's exporter are a stand-in's."
        )
        figure(Window(prometheus, begin, time.time()), note).savefig(options.out)


if __name__ == "__main__":
    main()
