"""Evaluation: how good a checkpoint's pictures are, judged by a classifier of real photographs.

    python -m model.train.evaluate --data PHOTOGRAPHS --classifier RUN/classifier.safetensors \\
        --model FOLDER --vae FOLDER/vae --json FIGURES.json ddim:50:1.5 dpmpp_2m:20:1.5

For each SAMPLER:STEPS:CFG_SCALE, with :LOW-HIGH behind it for a guidance interval, it draws the same
number of pictures of every class and gives

- agreement: the share that the classifier takes for the class asked for;
- the Frechet distance between the classifier's features of the pictures and of held-out photographs,
  and of photographs trained on (Heusel et al. 2017, with this classifier in place of Inception);
- spread: how far a class's pictures differ from each other, over the same of photographs;
- nearest: the median distance to the nearest photograph trained on, and the share of copies.

The same of photographs and of the autoencoder's reconstructions says what a perfect DiT could reach.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from model.device import choose_device
from model.train.autoencoder.autoencoder import reconstruct
from model.train.data.photographs import load_photographs
from model.train.evaluation.classifier import load_classifier
from model.train.evaluation.generate import Sampling
from model.train.evaluation.measure import Figures, Judge
from model.train.evaluation.similarity import psnr, ssim
from model.train.options import command_parser, leave_out_option
from model.weights.checkpoint import Checkpoint, load_checkpoint

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

HEADER = """\
| pictures | count | agreement | Fréchet distance | of trained on | spread, least | nearest | copies | weakest classes |
|---|---|---|---|---|---|---|---|---|"""


def line_of(figures: Figures) -> str:
    """One line of the table under HEADER."""
    worst = sorted(figures.by_class.items(), key=lambda item: item[1])[:3]
    names = ", ".join(f"{name} {share:.0%}" for name, share in worst)
    alike, least = min(figures.spread_by_class.items(), key=lambda item: item[1])
    return (
        f"| {figures.name} | {figures.pictures} | {figures.agreement:.1%} "
        f"| {figures.frechet_distance:.3f} | {figures.frechet_to_trained:.3f} "
        f"| {figures.spread:.2f}, {alike} {least:.2f} "
        f"| {figures.nearest:.1f} | {figures.copies:.1%} | {names} |"
    )


def evaluate(
    judge: Judge, checkpoint: Checkpoint, vae: AutoencoderKL, samplings: Sequence[Sampling]
) -> list[Figures]:
    """Measure photographs, reconstructions and pictures, printing each line as it is known."""
    images, labels = judge.held_out
    rows = [
        judge.measure("held-out photographs", images, labels),
        judge.measure("photographs trained on", *judge.trained_on),
        judge.measure("held-out, reconstructed", reconstruct(vae, images), labels),
        judge.measure("trained on, reconstructed", judge.trained_rebuilt, judge.trained_on[1]),
    ]
    print(HEADER)
    for row in rows:
        print(line_of(row), flush=True)
    for sampling in samplings:
        rows.append(judge.measure_generated(checkpoint, sampling))
        print(line_of(rows[-1]), flush=True)
    return rows


def sampling_from(text: str) -> Sampling:
    """Read SAMPLER:STEPS:CFG_SCALE or SAMPLER:STEPS:CFG_SCALE:LOW-HIGH.

    Raises:
        ValueError: it is not spelled so.
    """
    sampler, steps, cfg_scale, *interval = text.split(":")
    low, high = (interval or ["0-1"])[0].split("-")
    return Sampling(sampler, int(steps), float(cfg_scale), (float(low), float(high)))


def options_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of class folders")
    leave_out_option(parser)
    parser.add_argument("--classifier", type=Path, required=True)
    parser.add_argument("--model", default="bundled", help="as DIT_MODEL: default bundled")
    parser.add_argument("--vae", type=Path, required=True, help="the model's autoencoder folder")
    parser.add_argument("--device", default="auto", help="as DIT_DEVICE: default auto")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16")
    parser.add_argument("--each", type=int, default=20, help="pictures a class")
    parser.add_argument("--json", type=Path, required=True, help="file for the figures")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("samplings", nargs="+", metavar="SAMPLER:STEPS:CFG_SCALE[:LOW-HIGH]")
    return parser


def main() -> None:
    options = options_parser().parse_args()
    torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    checkpoint = load_checkpoint(options.model, device=device, dtype=DTYPES[options.dtype])
    vae = AutoencoderKL.from_pretrained(options.vae).eval()
    photographs = load_photographs(options.data, checkpoint.image_size, options.leave_out)
    images, labels = photographs.part(held_out=True)
    judge = Judge(load_classifier(options.classifier), photographs, vae, options.each)
    whole = judge.measure("all held-out", images, labels)
    rebuilt = reconstruct(vae, images)
    facts = {
        "model": checkpoint.name,
        "model_digest": checkpoint.digest,
        "held_out_photographs": len(images),
        "classifier_accuracy": whole.agreement,
        "autoencoder_psnr_db": psnr(rebuilt, images),
        "autoencoder_ssim": ssim(rebuilt, images),
        "copy_distance": judge.copy_distance,
    }
    print(json.dumps(facts, indent=1) + "\n")
    rows = evaluate(judge, checkpoint, vae, [sampling_from(text) for text in options.samplings])
    table = [asdict(row) | {"spread": row.spread} for row in rows]
    options.json.write_text(json.dumps(facts | {"rows": table}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
