"""Time the settings of evaluations anew, on a machine that does nothing else.

    python -m model.train.evaluation.timing FIGURES.json [...] --model FOLDER --threads 1

Draws one picture of every class by each setting, without measuring them, and writes into each file how long
all of its setting's pictures would take at that rate. An evaluation may run next to other work; its times
then say nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch

from model.device import choose_device, choose_dtype
from model.train.evaluation.generate import evaluation_runner, generate, row_steps
from model.train.evaluation.report import setting_of
from model.train.evaluation.setting import EvaluationSetting
from model.train.options import (
    add_figures_option,
    add_model_options,
    add_threads_option,
    command_parser,
    named_errors,
    set_threads,
)
from model.weights.checkpoint import load_checkpoint


def write_times(
    file: Path,
    seconds: Callable[[EvaluationSetting], float],
    row_steps: Callable[[EvaluationSetting], int],
) -> None:
    """Write the seconds and row-steps of every generated row; ``seconds`` are those of one picture."""
    evaluation = json.loads(file.read_text(encoding="utf-8"))
    for row in evaluation["rows"]:
        setting = setting_of(row["name"])
        row["row_steps"] = 0 if setting is None else row_steps(setting)
        row["seconds"] = 0.0 if setting is None else seconds(setting) * row["pictures"]
    file.write_text(json.dumps(evaluation, indent=1) + "\n", encoding="utf-8")


def time_all(options: argparse.Namespace) -> None:
    """Time every setting of every file, and print it.

    Raises:
        CheckpointError: the model cannot be loaded.
        ValueError: the device or a generated picture is unusable.
    """
    set_threads(options)
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device)
    checkpoint = load_checkpoint(options.model, device=device, dtype=dtype)
    runner = evaluation_runner(checkpoint)
    runner.warm_up(lambda line: None)
    labels = torch.arange(checkpoint.dit.num_classes)

    def seconds(setting: EvaluationSetting) -> float:
        began = time.monotonic()
        generate(runner, labels, setting)
        each = (time.monotonic() - began) / len(labels)
        print(f"{setting}: {each:.4f} s a picture", flush=True)
        return each

    for file in options.figures:
        write_times(file, seconds, lambda setting: row_steps(checkpoint, setting))


def main() -> None:
    parser = command_parser("model.train.evaluation.timing", __doc__)
    add_figures_option(parser)
    add_model_options(parser)
    add_threads_option(parser)
    options = parser.parse_args()
    with named_errors("time"):
        time_all(options)


if __name__ == "__main__":
    main()
