"""The plot of an evaluation."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from model.train.evaluation import report, timing
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


def written(path: Path, rows: Sequence[Figures], classifier_accuracy: float = 1.0) -> Path:
    facts = {"model_digest": "ab", "classifier_accuracy": classifier_accuracy}
    content = facts | {"rows": [asdict(each) for each in rows]}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_several_evaluations_are_one_table(tmp_path: Path) -> None:
    photographs = row("held-out photographs", 0.0)
    first = written(tmp_path / "1.json", [photographs, row("fitted 6 cfg 1.5", 12.0)])
    more = [photographs, row("fitted 6 cfg 1.5", 1.0), row("ddim 50 cfg 1.5", 100.0)]
    second = written(tmp_path / "2.json", more)
    _, rows = report.read_evaluations([first, second])
    assert [(each.name, each.row_steps) for each in rows] == [
        ("held-out photographs", 0.0),
        ("ddim 50 cfg 1.5", 100.0),
        ("fitted 6 cfg 1.5", 12.0),
    ]
    third = written(tmp_path / "3.json", more, classifier_accuracy=0.5)
    with pytest.raises(ValueError, match="another classifier_accuracy"):
        report.read_evaluations([first, third])


def test_times_measured_anew_are_written_into_the_file(tmp_path: Path) -> None:
    file = written(tmp_path / "1.json", [row("held-out photographs"), row("ddim 50 cfg 1.5")])
    timing.write_times(file, lambda setting: 0.5, lambda setting: setting.num_sampling_steps)
    _, (photographs, ddim) = report.read_evaluation(file)
    assert (photographs.row_steps, photographs.seconds) == (0, 0.0)
    assert (ddim.row_steps, ddim.seconds_per_picture) == (50, 0.5)
