"""Write an evaluation's figures as a page with a table and a plot.

    python -m model.train.evaluation.report FIGURES.json [MORE.json ...] --page docs/bundled-model.md

Two plots are saved next to the page, as SVG. One, under the page's name, shows the effect of guidance and
that of the number of steps; the other, with "-frontier" added, what a Frechet distance costs in row-steps
and in seconds. The settings held fixed are the most frequent ones.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from model.train.evaluation.figures import HEADER, Figures, table_row
from model.train.evaluation.setting import EVERYWHERE, EvaluationSetting
from model.train.options import (
    add_figures_option,
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

What a Fréchet distance costs, at the most frequent guidance: forward rows over all steps of a picture (a guided
step has two), and seconds to sample and decode one of many pictures on this machine.

![Fréchet distance over row-steps and over seconds]({frontier})
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


def read_evaluations(files: Sequence[Path]) -> tuple[dict[str, object], list[Figures]]:
    """The first evaluation, and the rows of all, each name once.

    Raises:
        ValueError: they are not of the same model, or the same classifier.
    """
    first, rows = read_evaluation(files[0])
    by_name = {row.name: row for row in rows}
    for file in files[1:]:
        evaluation, more = read_evaluation(file)
        for fact in ("model_digest", "classifier_accuracy"):
            if evaluation[fact] != first[fact]:
                raise ValueError(f"{file} has another {fact} than {files[0]}")
        by_name = {row.name: row for row in more} | by_name
    in_order = sorted(by_name.values(), key=_place)
    return first, in_order


def _place(row: Figures) -> tuple[object, ...]:
    """Photographs first, then by sampler, guidance and steps."""
    setting = setting_of(row.name)
    if setting is None:
        return (0, "reconstructed" in row.name, row.name)
    interval = setting.guidance_interval
    return (1, setting.sampler, setting.cfg_scale, setting.num_sampling_steps, interval)


def generated(rows: Sequence[Figures]) -> list[Measured]:
    """The rows of generated pictures."""
    named = [(setting_of(row.name), row) for row in rows]
    return [Measured(setting, row) for setting, row in named if setting is not None]


def setting_of(name: str) -> EvaluationSetting | None:
    """The setting whose name this is; None for photographs and reconstructions."""
    match = re.fullmatch(r"(\S+) (\d+) cfg (\S+)(?: in (\S+)\.\.(\S+))?", name)
    if match is None:
        return None
    spelled = ":".join(match.groups()[:3])
    return EvaluationSetting.parse(f"{spelled}:{match[4]}-{match[5]}" if match[4] else spelled)


def guided_everywhere(measured: Sequence[Measured]) -> list[Measured]:
    """Those without a guidance interval."""
    return [m for m in measured if m.setting.guidance_interval == EVERYWHERE]


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
    _save(figure, path)


def plot_frontier(measured: Sequence[Measured], path: Path) -> None:
    """Draw Fréchet distance over row-steps and over seconds at the most frequent cfg_scale, as SVG."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    chosen = _at_the_most_frequent_guidance(measured)
    for sampler in dict.fromkeys(m.setting.sampler for m in chosen):
        for unguided, style in ((False, "o-"), (True, "x")):
            points = [
                m
                for m in chosen
                if m.setting.sampler == sampler
                and (m.setting.guidance_interval != EVERYWHERE) == unguided
            ]
            label = f"{sampler}, partly unguided" if unguided else sampler
            for axes, cost in ((left, _row_steps), (right, _seconds)):
                _plot_distance(axes, points, cost, label, style)
    left.set_xlabel("row-steps of a picture")
    right.set_xlabel("seconds for a picture")
    left.set_ylabel("Fréchet distance")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(color="#dddddd")
    left.legend()
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    """Equal input gives equal bytes."""
    with rc_context({"svg.hashsalt": "evaluation"}):
        figure.savefig(path, metadata={"Date": None})


def _row_steps(measured: Measured) -> float:
    return measured.figures.row_steps


def _seconds(measured: Measured) -> float:
    return measured.figures.seconds_per_picture


def _at_the_most_frequent_guidance(measured: Sequence[Measured]) -> list[Measured]:
    scales = Counter(m.setting.cfg_scale for m in measured)
    (cfg_scale, _), *_ = scales.most_common(1)
    return [m for m in measured if m.setting.cfg_scale == cfg_scale]


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
    chosen = _at_the_most_frequent_guidance(measured)
    for sampler in dict.fromkeys(m.setting.sampler for m in chosen):
        points = [m for m in chosen if m.setting.sampler == sampler]
        _plot_distance(axes, points, lambda m: m.setting.num_sampling_steps, sampler)
    steps = sorted({m.setting.num_sampling_steps for m in chosen})
    axes.set_xscale("log")
    axes.set_xticks(steps, labels=[str(count) for count in steps])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(f"num_sampling_steps, at cfg_scale {chosen[0].setting.cfg_scale:g}")
    axes.legend(loc="center right")


def _plot_distance(
    axes: Axes,
    points: Sequence[Measured],
    x: Callable[[Measured], float],
    label: str,
    style: str = "o-",
) -> None:
    if not points:
        return
    ordered = sorted(points, key=x)
    distances = [m.figures.frechet_distance for m in ordered]
    axes.plot([x(m) for m in ordered], distances, style, label=label)


def main() -> None:
    parser = command_parser("model.train.evaluation.report", __doc__)
    add_figures_option(parser)
    parser.add_argument(
        "--page", type=Path, required=True, metavar="FILE", help="the Markdown page to write"
    )
    options = parser.parse_args()
    with named_errors("write the page"):
        write(options.figures, options.page)


def write(figures: Sequence[Path], page: Path) -> None:
    """Write the page, and its plots beside it."""
    evaluation, rows = read_evaluations(figures)
    plot_file = page.with_suffix(".svg")
    reconstructed = next(row for row in rows if row.name == RECONSTRUCTED)
    measured = generated(rows)
    plot(guided_everywhere(measured), reconstructed, plot_file)
    frontier_file = page.with_name(f"{page.stem}-frontier.svg")
    plot_frontier(measured, frontier_file)
    table = "\n".join([HEADER, *map(table_row, rows)])
    text = PAGE.format(table=table, plot=plot_file.name, frontier=frontier_file.name, **evaluation)
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
