"""Report: an evaluation's figures as a page with a table and a plot.

    python -m model.train.report FIGURES.json --page docs/bundled-model.md

The plot goes beside the page under the same name. Its left half shows guidance at one sampler and
step count, its right half the samplers by steps at one guidance: those that most lines have.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model.train.evaluation.evaluate import HEADER, line_of
from model.train.evaluation.generate import Sampling
from model.train.evaluation.measure import Figures
from model.train.options import command_parser

PAGE = """# {model}: the model in figures

Written by `python -m model.train.report`, from what `python -m model.train.evaluate` measured; the
model's card says on which machine and with which command. Agreement is the share of pictures that a
classifier of photographs takes for the class asked for; the Fréchet distance is between its features of
the pictures and of held-out photographs, and in the next column of photographs trained on, as many of each.
Spread is how far a class's pictures differ from each other, over the same of photographs: the mean of all
classes, and the class where it is least. Nearest is the median distance to the nearest photograph trained
on, in levels of 255.

The classifier that judges is right on {classifier_accuracy:.2%} of {held_out_photographs} held-out
photographs. The autoencoder rebuilds these at {autoencoder_psnr_db:.2f} dB PSNR and
{autoencoder_ssim:.3f} SSIM. A picture counts as a copy within {copy_distance:.1f} levels of a photograph
trained on.

{table}

![Fréchet distance and agreement by guidance and by steps]({plot})
"""


@dataclass(frozen=True, slots=True)
class Measured:
    sampling: Sampling
    figures: Figures


def read_rows(facts: dict[str, Any]) -> list[Figures]:
    """The lines of an evaluation's file."""
    fields = Figures.__dataclass_fields__
    return [Figures(**{name: row[name] for name in fields}) for row in facts["rows"]]


def generated(rows: Sequence[Figures]) -> list[Measured]:
    """Those that are of generated pictures, with how they were drawn."""
    found = []
    for row in rows:
        spelled = re.fullmatch(r"(\S+) (\d+) cfg (\S+)", row.name)
        if spelled:
            sampler, steps, cfg_scale = spelled.groups()
            found.append(Measured(Sampling(sampler, int(steps), float(cfg_scale)), row))
    return found


def draw(measured: Sequence[Measured], reconstructed: Figures, path: Path) -> None:
    """The plot, as SVG."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _by_guidance(left, measured)
    _by_steps(right, measured)
    for axes in (left, right):
        axes.axhline(reconstructed.frechet_distance, color="grey", linestyle=":")
        axes.set_ylabel("Fréchet distance (dotted: reconstructions)")
        axes.set_ylim(bottom=0)
    figure.savefig(path, metadata={"Date": None})


def _by_guidance(axes: Axes, measured: Sequence[Measured]) -> None:
    ways = Counter((each.sampling.sampler, each.sampling.steps) for each in measured)
    (way, _), *_ = ways.most_common(1)
    chosen = [each for each in measured if (each.sampling.sampler, each.sampling.steps) == way]
    _line(axes, chosen, lambda each: each.sampling.cfg_scale, f"{way[0]}, {way[1]} steps")
    shares = axes.twinx()
    chosen = sorted(chosen, key=lambda each: each.sampling.cfg_scale)
    scales = [each.sampling.cfg_scale for each in chosen]
    shares.plot(scales, [100 * each.figures.agreement for each in chosen], "s--", color="tab:red")
    shares.set_ylabel("agreement, % (dashed)")
    axes.set_xlabel("cfg_scale")
    axes.legend(loc="center right")


def _by_steps(axes: Axes, measured: Sequence[Measured]) -> None:
    scales = Counter(each.sampling.cfg_scale for each in measured)
    (cfg_scale, _), *_ = scales.most_common(1)
    chosen = [each for each in measured if each.sampling.cfg_scale == cfg_scale]
    for sampler in dict.fromkeys(each.sampling.sampler for each in chosen):
        of_it = [each for each in chosen if each.sampling.sampler == sampler]
        _line(axes, of_it, lambda each: each.sampling.steps, sampler)
    steps = sorted({each.sampling.steps for each in chosen})
    axes.set_xscale("log")
    axes.set_xticks(steps, labels=[str(each) for each in steps])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(f"num_sampling_steps, at cfg_scale {cfg_scale:g}")
    axes.legend(loc="center right")


def _line(
    axes: Axes, chosen: Sequence[Measured], place: Callable[[Measured], float], label: str
) -> None:
    ordered = sorted(chosen, key=place)
    places = [place(each) for each in ordered]
    axes.plot(places, [each.figures.frechet_distance for each in ordered], "o-", label=label)


def main() -> None:
    parser = command_parser(__doc__)
    parser.add_argument("figures", type=Path, help="what model.train.evaluate wrote")
    parser.add_argument("--page", type=Path, required=True, help="the page to write")
    options = parser.parse_args()
    facts = json.loads(options.figures.read_text(encoding="utf-8"))
    rows = read_rows(facts)
    plot = options.page.with_suffix(".svg")
    reconstructed = next(row for row in rows if row.name == "held-out, reconstructed")
    draw(generated(rows), reconstructed, plot)
    table = "\n".join([HEADER, *map(line_of, rows)])
    page = PAGE.format(table=table, plot=plot.name, **facts)
    options.page.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
