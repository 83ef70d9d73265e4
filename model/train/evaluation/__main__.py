"""Measure how good a model's pictures are.

    python -m model.train.evaluation --data PHOTOGRAPHS --classifier RUN/classifier.safetensors \\
        --model FOLDER --vae FOLDER/vae --json FIGURES.json ddim:50:1.5 dpmpp_2m:20:1.5

For each SAMPLER:STEPS:CFG_SCALE, or SAMPLER:STEPS:CFG_SCALE:LOW-HIGH with a guidance interval, generate
the same number of pictures of every class, with the runner that also serves them, and measure

- agreement: the fraction that a classifier of photographs assigns to the class asked for;
- Frechet distance between the classifier's features of the pictures and of held-out photographs, and of
  training photographs (Heusel et al. 2017, with this classifier instead of Inception);
- spread: how much the pictures of a class differ, relative to training photographs;
- nearest: the median distance to the nearest training photograph, and the fraction of copies.

Photographs and the autoencoder's reconstructions are measured as well: they show what a perfect DiT
could reach. The classifier comes from python -m model.train.evaluation.classifier.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from diffusers import AutoencoderKL

from model.device import choose_device, choose_dtype
from model.runner.runner import ModelRunner
from model.train.autoencoder.network import reconstruct
from model.train.data.photographs import load_photographs
from model.train.data.similarity import psnr, ssim
from model.train.evaluation.classifier import load_classifier
from model.train.evaluation.figures import HEADER, Figures, table_row
from model.train.evaluation.generate import evaluation_runner
from model.train.evaluation.measure import Evaluator
from model.train.evaluation.setting import SPELLING, EvaluationSetting, setting_option
from model.train.options import (
    add_count_option,
    add_data_option,
    add_leave_out_option,
    add_model_options,
    add_threads_option,
    command_parser,
    named_errors,
    set_threads,
)
from model.weights.checkpoint import load_checkpoint


def options_parser() -> argparse.ArgumentParser:
    parser = command_parser("model.train.evaluation", __doc__)
    add_data_option(parser)
    add_leave_out_option(parser)
    parser.add_argument(
        "--classifier",
        type=Path,
        required=True,
        metavar="FILE",
        help="classifier.safetensors of model.train.evaluation.classifier",
    )
    add_model_options(parser)
    parser.add_argument(
        "--vae", type=Path, required=True, metavar="FOLDER", help="the model's autoencoder"
    )
    add_count_option(parser, "--per-class", default=20, help="pictures per class")
    parser.add_argument(
        "--json", type=Path, required=True, metavar="FILE", help="where to write the figures"
    )
    add_threads_option(parser)
    parser.add_argument(
        "settings",
        nargs="+",
        type=setting_option,
        metavar=SPELLING,
        help="how to sample a set of pictures",
    )
    return parser


def measure_all(
    evaluator: Evaluator,
    vae: AutoencoderKL,
    runner: ModelRunner,
    settings: Sequence[EvaluationSetting],
    save: Callable[[Sequence[Figures]], None] = lambda rows: None,
) -> list[Figures]:
    """Measure photographs, reconstructions and generated pictures.

    Each row is printed, and all so far are saved, as soon as it is known.
    """
    held_out, training = evaluator.held_out, evaluator.training
    rows = [
        evaluator.measure("held-out photographs", *held_out),
        evaluator.measure("training photographs", *training),
        evaluator.measure("held-out, reconstructed", reconstruct(vae, held_out[0]), held_out[1]),
        evaluator.measure("training, reconstructed", evaluator.training_rebuilt, training[1]),
    ]
    print("\n".join([HEADER, *map(table_row, rows)]), flush=True)
    for setting in settings:
        rows.append(evaluator.measure_generated(runner, setting))
        print(table_row(rows[-1]), flush=True)
        save(rows)
    return rows


def evaluate(options: argparse.Namespace) -> None:
    """Measure, print a table, and write the figures to a file.

    Raises:
        CheckpointError: the model cannot be loaded.
        ValueError: the photographs, the device or a generated picture is unusable.
    """
    set_threads(options)
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device)
    checkpoint = load_checkpoint(options.model, device=device, dtype=dtype)
    runner = evaluation_runner(checkpoint)
    runner.warm_up(lambda line: print(line, file=sys.stderr))
    vae = AutoencoderKL.from_pretrained(options.vae).eval()
    photographs = load_photographs(options.data, checkpoint.image_size, options.leave_out)
    classifier = load_classifier(options.classifier)
    evaluator = Evaluator(classifier, photographs, vae, per_class=options.per_class)
    images, labels = photographs.part(held_out=True)
    rebuilt = reconstruct(vae, images)
    summary = {
        "model": checkpoint.name,
        "model_digest": checkpoint.digest,
        "held_out_photographs": len(images),
        "classifier_accuracy": classifier.accuracy(images, labels),
        "autoencoder_psnr_db": psnr(rebuilt, images),
        "autoencoder_ssim": ssim(rebuilt, images),
        "copy_distance": evaluator.copy_distance,
    }
    print(json.dumps(summary, indent=1) + "\n")

    def save(rows: Sequence[Figures]) -> None:
        table = [asdict(row) | {"spread": row.spread} for row in rows]
        text = json.dumps(summary | {"rows": table}, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")

    measure_all(evaluator, vae, runner, options.settings, save)


def main() -> None:
    options = options_parser().parse_args()
    with named_errors("evaluate"):
        evaluate(options)


if __name__ == "__main__":
    main()
