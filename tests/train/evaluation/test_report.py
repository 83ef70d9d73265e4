"""The plot of an evaluation."""

from __future__ import annotations

import re
from pathlib import Path

from model.train.evaluation import report
from model.train.evaluation.figures import Figures


def row(name: str, row_steps: float = 8.0) -> Figures:
    return Figures(name, 2, 1.0, 0.5, 0.5, 1.0, 0.0, 1.0, row_steps, {"a": 1.0}, {"a": 1.0})


def test_the_plot_names_the_steps_measured(tmp_path: Path) -> None:
    names = ("ddim 50 cfg 2", "ddim 20 cfg 2", "dpmpp_2m 10 cfg 2", "ddim 100 cfg 1")
    measured = report.generated([row(name) for name in names])
    report.plot(measured, row("held-out, reconstructed"), tmp_path / "plot.svg")
    drawn = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    _, by_steps = drawn.split('id="axes_2"')
    axis = by_steps.split('id="matplotlib.axis_')[1]
    written = re.findall(r"<!-- (.+) -->", axis)
    assert written == ["10", "20", "50", "num_sampling_steps, at cfg_scale 2"]


def test_the_frontier_has_every_sampler_and_what_was_partly_unguided(tmp_path: Path) -> None:
    names = ("fitted 6 cfg 1.5", "fitted 6 cfg 1.5 in 0.2..0.9", "ddim 50 cfg 1.5", "ddim 50 cfg 2")
    measured = report.generated([row(name) for name in names])
    assert measured[1].setting.guidance_interval == (0.2, 0.9)
    assert measured[1] not in report.guided_everywhere(measured)
    report.plot_frontier(measured, tmp_path / "plot.svg")
    drawn = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    labels = set(re.findall(r"<!-- (.+) -->", drawn))
    assert {"fitted", "fitted, partly unguided", "ddim", "row-steps of a picture"} <= labels
    report.plot_frontier(measured, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text(encoding="utf-8") == drawn
