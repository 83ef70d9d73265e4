"""Plot: the comparisons as bars on a logarithmic axis, losses to the left of 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench.report.comparisons import Comparison
from bench.report.markdown import number

WIN, LOSS, INK = "#2f6fb0", "#d1622b", "#222222"
TICKS = (0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30)
LEGEND = (
    Patch(color=WIN, label="ours is faster (median)"),
    Patch(color=LOSS, label="ours is slower"),
    Line2D([], [], color=INK, label="lowest .. highest round"),
    Line2D([], [], color=INK, marker="D", markerfacecolor="white", linestyle="", label="target"),
)


def write_plot(compared: Sequence[Comparison], title: str, path: Path) -> None:
    """Write a file in the format of its suffix; equal input gives equal bytes."""
    groups: dict[str, list[Comparison]] = {}
    for one in compared:
        groups.setdefault(one.scenario, []).append(one)
    height = 1.4 + 0.27 * len(compared) + 0.35 * len(groups)
    with rc_context({"svg.hashsalt": "benchmarks", "svg.fonttype": "none"}):
        figure = Figure(figsize=(9, height), layout="constrained")
        panels = figure.subplots(
            len(groups),
            sharex=True,
            squeeze=False,
            height_ratios=[len(group) for group in groups.values()],
        )
        for axes, (scenario, group) in zip(panels.flat, groups.items()):
            _draw_panel(axes, scenario, group)
        _set_axis(panels.flat[-1], compared)
        figure.suptitle(title, fontsize=11)
        figure.legend(handles=LEGEND, loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw_panel(axes: Axes, scenario: str, group: Sequence[Comparison]) -> None:
    for row, one in enumerate(group):
        _draw_row(axes, row, one)
    axes.axvline(1, color=INK, linewidth=1)
    axes.set_title(scenario, loc="left", fontsize=10, fontweight="bold")
    axes.set_yticks(range(len(group)), [one.peer for one in group])
    axes.set_ylim(len(group) - 0.4, -0.6)  # the first row on top
    axes.grid(axis="x", color="#dddddd")
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _draw_row(axes: Axes, row: int, one: Comparison) -> None:
    median, color = one.spread.median, LOSS if one.lost else WIN
    axes.barh(row, median - 1, left=1, height=0.6, color=color)
    axes.plot([one.spread.low, one.spread.high], [row, row], color=INK, linewidth=1)
    if one.target is not None:
        axes.plot(one.target, row, "D", color=INK, markerfacecolor="white", markersize=6)
    axes.text(
        1.01,
        row,
        f"{number(median)}x",
        transform=axes.get_yaxis_transform(),
        color=color,
        verticalalignment="center",
    )


def _set_axis(axes: Axes, compared: Sequence[Comparison]) -> None:
    """The axis that all panels share: from below the lowest to above the highest value."""
    values = [v for one in compared for v in (one.spread.low, one.spread.high, one.target or 1)]
    axes.set_xscale("log")
    axes.set_xticks(TICKS, [f"{tick:g}x" for tick in TICKS])
    axes.set_xticks([], minor=True)
    axes.set_xlim(min([0.6, *values]) / 1.1, 1.1 * max([2, *values]))
    axes.set_xlabel("how many times as fast as the alternative (log scale)")
