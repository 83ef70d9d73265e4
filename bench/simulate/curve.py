"""TickCurve: how long a device takes for a tick, by its rows."""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from model.runner.runner import TickTimes


@dataclass(frozen=True, slots=True)
class TickCurve:
    """Seconds of a tick at some numbers of rows, straight between them and beyond the last.

    Attributes:
        max_rows: of a tick.
        points: pairs of rows and seconds, by rows; two at least.
        decode_s: seconds of the decoder for one image, during which there is no tick.
    """

    name: str
    max_rows: int
    points: tuple[tuple[int, float], ...]
    decode_s: float = 0.0

    def seconds(self, rows: float) -> float:
        """Of a tick, or the mean of ticks of so many rows on average; one of fewer rows than the first point takes as long as that."""
        after = bisect_right(self.points, rows, key=lambda point: point[0])
        low, high = self.points[max(0, min(after, len(self.points) - 1) - 1) :][:2]
        part = (max(rows, low[0]) - low[0]) / (high[0] - low[0])
        return low[1] + part * (high[1] - low[1])

    @property
    def row_steps_per_s(self) -> float:
        """The most that it can do."""
        return self.max_rows / self.seconds(self.max_rows)

    @property
    def times(self) -> TickTimes:
        """What a warm-up would measure."""
        one, full = self.seconds(1), self.seconds(self.max_rows)
        return TickTimes(one, full, decode=self.decode_s)


def linear(name: str, max_rows: int, base_s: float, row_s: float) -> TickCurve:
    """A tick of r rows takes ``base_s + r * row_s`` seconds."""
    return TickCurve(name, max_rows, tuple((r, base_s + r * row_s) for r in (1, max_rows)))


CURVES = {
    "cpu": linear("CPU", 32, 3.8e-3, 2.85e-3),
    "h100": linear("H100", 128, 1.8e-3, 0.53e-3),
}
"""Of two CPU cores and the bundled model (measured), and of DiT-XL/2 at 256 pixels on one H100 (estimated)."""

_FILE = TypeAdapter(TickCurve)


def read_curve(name: str) -> TickCurve:
    """A built-in curve, or a JSON file with the fields of `TickCurve`.

    Raises:
        ValueError: there is no such curve, or the file does not hold one.
    """
    if name in CURVES:
        return CURVES[name]
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"curve {name}: neither one of {', '.join(CURVES)} nor a file")
    curve = _FILE.validate_python(json.loads(path.read_text(encoding="utf-8")))
    rows = [point[0] for point in curve.points]
    if len(rows) < 2 or rows != sorted(set(rows)) or min(rows) < 1 or curve.max_rows < 2:
        raise ValueError(f"{path}: points must be two or more pairs of rows and seconds, by rows")
    return curve
