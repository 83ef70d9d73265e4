"""The diagram in docs/architecture.md shows the imports of the code."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import grimp

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
BELOW_ALL = {
    "listening",
    "output",
    "settings",
    "metrics",
    "errors",
    "logs",
    "threads",
    "signals",
    "service",
    "__main__",
}
"""Modules that every room may use, and the entry point: not drawn."""

Edges = set[tuple[str, str]]


def drawn(arrow: str) -> Edges:
    """The pairs of rooms that an arrow connects, chains taken apart."""
    diagram = PAGE.read_text(encoding="utf-8").split("```mermaid")[1].split("```")[0]
    edges: Edges = set()
    for line in diagram.splitlines():
        rooms = [room.strip() for room in line.split(arrow)]
        edges |= set(pairwise(rooms))
    return edges


def imported(*, types: bool) -> Edges:
    """The pairs of rooms of which the first imports the second."""
    graph = grimp.build_graph(
        "model", "service", exclude_type_checking_imports=not types, cache_dir=None
    )
    room = re.compile(r"^(?:model|service)\.(\w+)")
    edges: Edges = set()
    for module in graph.modules:
        for other in graph.find_modules_directly_imported_by(module):
            a, b = room.match(module), room.match(other)
            if a and b and a[1] != b[1]:
                edges.add((a[1], b[1]))
    return {edge for edge in edges if not BELOW_ALL & set(edge)}


def reachable(edges: Edges) -> Edges:
    """Every pair that a chain of edges connects."""
    chained = {(a, d) for a, b in edges for c, d in edges if b == c}
    return edges if chained <= edges else reachable(edges | chained)


def test_the_diagram_shows_the_imports() -> None:
    assert reachable(drawn("-->")) == reachable(imported(types=False))


def test_a_dotted_arrow_is_an_import_of_types_alone() -> None:
    assert drawn("-.->")
    assert drawn("-.->") <= imported(types=True) - imported(types=False)
