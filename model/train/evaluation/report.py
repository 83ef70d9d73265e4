"""Write an evaluation's figures as a page with a table and a plot.

    python -m model.train.evaluation.report FIGURES.json --page docs/bundled-model.md

The plot is saved next to the page under the same name, as SVG. Its left half shows the effect of
guidance, its right half that of the number of steps; the settings held fixed are the most frequent ones.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model.train.evaluation.figures import HEADER, Figures, table_row
from model.train.evaluation.setting import EvaluationSetting
from model.train.options import (
    command_parser,
    named_errors,
)

RECONSTRUCTED = "held-out, reconstructed"
"""The row that shows what a perfect DiT could reach."""

PAGE = """# {model}: the model in figures

Measured by `python -m model.train.evaluation` and written by `python -m model.train.evaluation.report`; the
model card gives the machine and the commands. The columns are:

- **agreement**: the fraction of pictures that a classifier of photographs assigns to the class asked for;
- **Fréchet distance** between that classifier's features of the pictures and of held-out photographs, and in
  the next column of training photographs, equally many of each;
- **spread**: how much the pictures of a class differ from each other, relative to training photographs: the
  mean over the classes, and the class with the lowest;
- **nearest**: the median distance to the nearest training photograph, in levels of 255;
- **copies**: the fraction closer to a training photograph than 95 % of reconstructions are to their originals,
  which is within {copy_distance:.1f} levels.

The classifier is right on {classifier_accuracy:.2%} of {held_out_photographs} held-out photographs.
The autoencoder reconstructs these with {autoencoder_psnr_db:.2f} dB PSNR and {autoencoder_ssim:.3f} SSIM.

{table}

![Fréchet distance and agreement by guidance and by steps]({plot})
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """A row of generated pictures, with the setting read back from its name."""

    setting: EvaluationSetting
    figures: Figures


def read_evaluation(file: Path) -> tuple[dict[str, object], list[Figures]]:
    """All that an evaluation wrote, and its rows."""
    evaluation = json.loads(file.read_text(encoding="utf-8"))
    names = [field.name for field in fields(Figures)]
    return evaluation, [
        Figures(**{name: row[name] for name in names}) for row in evaluation["rows"]
    ]


def generated(rows: Sequence[Figures]) -> list[Measured]:
    """The rows of generated pictures, without those that have a guidance interval."""
    found = []
    for row in rows:
        match = re.fullmatch(r"(\S+) (\d+) cfg (\S+)", row.name)
        if match:
            found.append(Measured(EvaluationSetting.parse(":".join(match.groups())), row))
    return found


def plot(measured: Sequence[Measured], reconstructed: Figures, path: Path) -> None:
    """Draw Fréchet distance by guidance and by steps, as SVG."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _plot_guidance(left, measured)
    _plot_steps(right, measured)
    for axes in (left, right):
        axes.axhline(reconstructed.frechet_distance, color="grey", linestyle=":")
        axes.set_ylabel("Fréchet distance (dotted: reconstructions)")
        axes.set_ylim(bottom=0)
    figure.savefig(path, metadata={"Date": None})


def _plot_guidance(axes: Axes, measured: Sequence[Measured]) -> None:
    """Over cfg_scale, at the most frequent sampler and step count."""
    settings = Counter((m.setting.sampler, m.setting.num_sampling_steps) for m in measured)
    ((sampler, steps), _), *_ = settings.most_common(1)
    chosen = [
        m for m in measured if (m.setting.sampler, m.setting.num_sampling_steps) == (sampler, steps)
    ]
    _plot_distance(axes, chosen, lambda m: m.setting.cfg_scale, f"{sampler}, {steps} steps")
    chosen = sorted(chosen, key=lambda m: m.setting.cfg_scale)
    scales = [m.setting.cfg_scale for m in chosen]
    percent = axes.twinx()
    percent.plot(scales, [100 * m.figures.agreement for m in chosen], "s--", color="tab:red")
    percent.set_ylabel("agreement, % (dashed)")
    axes.set_xlabel("cfg_scale")
    axes.legend(loc="center right")


def _plot_steps(axes: Axes, measured: Sequence[Measured]) -> None:
    """Over steps, one line per sampler, at the most frequent cfg_scale."""
    scales = Counter(m.setting.cfg_scale for m in measured)
    (cfg_scale, _), *_ = scales.most_common(1)
    chosen = [m for m in measured if m.setting.cfg_scale == cfg_scale]
    for sampler in dict.fromkeys(m.setting.sampler for m in chosen):
        points = [m for m in chosen if m.setting.sampler == sampler]
        _plot_distance(axes, points, lambda m: m.setting.num_sampling_steps, sampler)
    steps = sorted({m.setting.num_sampling_steps for m in chosen})
    axes.set_xscale("log")
    axes.set_xticks(steps, labels=[str(count) for count in steps])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(f"num_sampling_steps, at cfg_scale {cfg_scale:g}")
    axes.legend(loc="center right")


def _plot_distance(
    axes: Axes, points: Sequence[Measured], x: Callable[[Measured], float], label: str
) -> None:
    ordered = sorted(points, key=x)
    distances = [m.figures.frechet_distance for m in ordered]
    axes.plot([x(m) for m in ordered], distances, "o-", label=label)


def main() -> None:
    parser = command_parser("model.train.evaluation.report", __doc__)
    parser.add_argument(
        "figures", type=Path, metavar="FIGURES.json", help="file written by model.train.evaluation"
    )
    parser.add_argument(
        "--page", type=Path, required=True, metavar="FILE", help="the Markdown page to write"
    )
    options = parser.parse_args()
    with named_errors("write the page"):
        write(options.figures, options.page)


def write(figures: Path, page: Path) -> None:
    """Write the page, and its plot beside it."""
    evaluation, rows = read_evaluation(figures)
    plot_file = page.with_suffix(".svg")
    reconstructed = next(row for row in rows if row.name == RECONSTRUCTED)
    plot(generated(rows), reconstructed, plot_file)
    table = "\n".join([HEADER, *map(table_row, rows)])
    text = PAGE.format(table=table, plot=plot_file.name, **evaluation)
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
