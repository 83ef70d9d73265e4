"""Figures: what was measured on one set of pictures, and its row in a table."""

from __future__ import annotations

from dataclasses import dataclass

HEADER = """\
| pictures | count | agreement | Fréchet distance | to training photos | spread, lowest | nearest | copies | weakest classes |
|---|---|---|---|---|---|---|---|---|"""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured on one set of pictures.

    Attributes:
        name: what the pictures are.
        pictures: how many.
        agreement: fraction that the classifier assigns to the class asked for.
        frechet_distance: between the classifier's features of the pictures and of held-out photographs.
        frechet_to_trained: the same, to training photographs.
        nearest: median distance to the nearest training photograph, in levels of 255.
        copies: fraction closer to a training photograph than most reconstructions are to their originals.
        seconds: how long generating them took.
        row_steps: forward rows of one picture, over all its steps; 0 for photographs.
        by_class: each class's agreement.
        spread_by_class: mean distance between two pictures of a class, relative to training photographs.
    """

    name: str
    pictures: int
    agreement: float
    frechet_distance: float
    frechet_to_trained: float
    nearest: float
    copies: float
    seconds: float
    row_steps: float
    by_class: dict[str, float]
    spread_by_class: dict[str, float]

    @property
    def seconds_per_picture(self) -> float:
        return self.seconds / self.pictures

    @property
    def spread(self) -> float:
        """Mean over the classes."""
        return sum(self.spread_by_class.values()) / len(self.spread_by_class)


def table_row(figures: Figures) -> str:
    """One row of the table under HEADER."""
    weakest = sorted(figures.by_class.items(), key=lambda item: item[1])[:3]
    names = ", ".join(f"{name} {agreement:.0%}" for name, agreement in weakest)
    least_varied, lowest = min(figures.spread_by_class.items(), key=lambda item: item[1])
    return (
        f"| {figures.name} | {figures.pictures} | {figures.agreement:.1%} "
        f"| {figures.frechet_distance:.3f} | {figures.frechet_to_trained:.3f} "
        f"| {figures.spread:.2f}, {least_varied} {lowest:.2f} "
        f"| {figures.nearest:.1f} | {figures.copies:.1%} | {names} |"
    )
