"""The plot of an evaluation."""

from __future__ import annotations

import re
from pathlib import Path

from model.train.evaluation import report
from model.train.evaluation.figures import Figures


def test_the_plot_names_the_steps_measured(tmp_path: Path) -> None:
    def row(name: str) -> Figures:
        return Figures(name, 2, 1.0, 0.5, 0.5, 1.0, 0.0, 1.0, {"a": 1.0}, {"a": 1.0})

    names = ("ddim 50 cfg 2", "ddim 20 cfg 2", "dpmpp_2m 10 cfg 2", "ddim 100 cfg 1")
    measured = report.generated([row(name) for name in names])
    report.plot(measured, row("held-out, reconstructed"), tmp_path / "plot.svg")
    drawn = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    _, by_steps = drawn.split('id="axes_2"')
    axis = by_steps.split('id="matplotlib.axis_')[1]
    written = re.findall(r"<!-- (.+) -->", axis)
    assert written == ["10", "20", "50", "num_sampling_steps, at cfg_scale 2"]
