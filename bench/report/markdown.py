"""Markdown: numbers, spreads and tables as the report writes them."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.figures import Cell, Spread, Table


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(
        "| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)
    )


def of_table(one: Table) -> str:
    """A suite's table under its title."""
    rows = [[cell(each) for each in row] for row in one.rows]
    return f"**{one.title}**\n\n" + table(one.header, rows)


def cell(value: Cell) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    return spread(value) if isinstance(value, Spread) else number(value)


def spread(value: Spread) -> str:
    """The median; with several rounds also the lowest and the highest."""
    if len(value.rounds) == 1:
        return number(value.median)
    return f"{number(value.median)} ({number(value.low)} .. {number(value.high)})"


def number(value: float) -> str:
    """Three significant digits, never an exponent."""
    size = abs(value)
    if size >= 100 or value == 0 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.{2 if size < 10 else 1}f}" if size >= 0.1 else f"{value:.4f}"


def in_unit(value: float, unit: str) -> str:
    return f"{number(100 * value)} %" if unit == "%" else f"{number(value)}{unit}"


def listed(words: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
