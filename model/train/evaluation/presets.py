"""Choose a model's presets from an evaluation, and write them into its model_index.json.

    python -m model.train.evaluation.presets FIGURES.json [MORE.json ...] --model FOLDER --cfg-range 1.25-2

Balanced is the setting of the fewest row-steps that nothing measured beats by more than chance: its
agreement is within two standard errors of the highest, and its Frechet distance within 1 % of the lowest.
Fast may be 5 % away. Best spares nothing: of those within 5 % that take the most row-steps, it has the lowest
distance. The presets hold for guidance in the range; outside it the service's own choice applies. Look at
the pictures too: what the classifier does not mind can look broken, and --without leaves a setting out.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from model.sampling.parameters import MAX_CFG_SCALE, MIN_CFG_SCALE
from model.sampling.presets import Quality
from model.train.evaluation.report import Measured, generated, read_evaluations
from model.train.evaluation.setting import setting_option
from model.train.options import add_figures_option, command_parser, named_errors
from model.weights.checkpoint import load_checkpoint
from model.weights.config_files import JsonFile
from model.weights.presets import KEY, model_presets

FREE = 0.01
"""A larger Frechet distance, relative to the lowest, that is chance. 1,420 pictures drawn again with other
seeds differ by about twice as much, but all settings of an evaluation share their noises."""

FAST = 0.05
"""What fast may cost in the same terms."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The setting of each quality, among those measured at one guidance scale."""

    settings: Mapping[Quality, Measured]

    def card(self, low: float, high: float) -> dict[str, object]:
        """The presets as model_index.json holds them."""
        return {
            quality: [
                {
                    "sampler": measured.setting.sampler,
                    "num_sampling_steps": measured.setting.num_sampling_steps,
                    "guidance_interval": [*measured.setting.guidance_interval],
                    "cfg_scale": [low, high],
                }
            ]
            for quality, measured in self.settings.items()
        }


def choose(measured: Sequence[Measured]) -> Chosen:
    """The fewest row-steps that are nearly as good as the best, or as good; and the best of the most.

    Raises:
        ValueError: nothing was measured.
    """
    if not measured:
        raise ValueError("the evaluation has no generated pictures at this guidance")
    return Chosen(
        {
            "fast": min(_good(measured, FAST), key=_row_steps),
            "balanced": min(_good(measured, FREE), key=_row_steps),
            "best": max(_good(measured, FAST), key=_thorough),
        }
    )


def _row_steps(measured: Measured) -> float:
    return measured.figures.row_steps


def _thorough(measured: Measured) -> tuple[float, float]:
    return measured.figures.row_steps, -measured.figures.frechet_distance


def _good(measured: Sequence[Measured], tolerance: float) -> Sequence[Measured]:
    lowest = min(m.figures.frechet_distance for m in measured)
    highest = max(m.figures.agreement for m in measured)
    good = [
        m
        for m in measured
        if m.figures.frechet_distance <= lowest * (1 + tolerance)
        and m.figures.agreement >= highest - 2 * _standard_error(m)
    ]
    return good or measured


def _standard_error(measured: Measured) -> float:
    """Of the agreement, as a fraction of so many pictures."""
    p, count = measured.figures.agreement, measured.figures.pictures
    return math.sqrt(p * (1 - p) / count)


def options_parser() -> argparse.ArgumentParser:
    parser = command_parser("model.train.evaluation.presets", __doc__)
    add_figures_option(parser)
    parser.add_argument(
        "--model", type=Path, required=True, metavar="FOLDER", help="the model folder to write to"
    )
    parser.add_argument(
        "--cfg-scale", type=float, default=1.5, help="choose among the settings of this guidance"
    )
    parser.add_argument(
        "--cfg-range",
        type=_cfg_range,
        required=True,
        metavar="LOW-HIGH",
        help="the guidance that the presets hold for",
    )
    parser.add_argument(
        "--without",
        nargs="+",
        type=setting_option,
        default=[],
        metavar="SETTING",
        help="settings that are measured and not to be chosen",
    )
    return parser


def _cfg_range(text: str) -> tuple[float, float]:
    low, _, high = text.partition("-")
    try:
        bounds = float(low), float(high)
    except ValueError:
        bounds = (0.0, 0.0)
    if not MIN_CFG_SCALE <= bounds[0] <= bounds[1] <= MAX_CFG_SCALE:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be LOW-HIGH within {MIN_CFG_SCALE:g} .. {MAX_CFG_SCALE:g}"
        )
    return bounds


def write(options: argparse.Namespace) -> None:
    """Choose, print and write.

    Raises:
        CheckpointError: the folder's model cannot be loaded, or not be sampled so at all of this guidance.
        ValueError: nothing was measured at this guidance.
    """
    _, rows = read_evaluations(options.figures)
    candidates = [m for m in generated(rows) if m.setting.cfg_scale == options.cfg_scale]
    chosen = choose([m for m in candidates if m.setting not in options.without])
    for quality, measured in chosen.settings.items():
        figures = measured.figures
        print(
            f"{quality}: {measured.setting}: {figures.row_steps:g} row-steps, Frechet distance"
            f" {figures.frechet_distance:.3f}, agreement {figures.agreement:.1%}"
        )
    file = options.model / "model_index.json"
    index = JsonFile.read(file)
    content = index.fields | {KEY: chosen.card(*options.cfg_range)}
    cpu = torch.device("cpu")
    checkpoint = load_checkpoint(str(options.model), device=cpu, dtype=torch.bfloat16)
    model_presets(JsonFile(file, content), checkpoint.schedule, checkpoint.fitted)  # a check
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    options = options_parser().parse_args()
    with named_errors("choose presets"):
        write(options)


if __name__ == "__main__":
    main()
