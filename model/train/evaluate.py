"""Evaluation: how good a checkpoint's pictures are, judged by a classifier of real photographs.

    python -m model.train.evaluate --data PHOTOGRAPHS --classifier RUN/classifier.safetensors \\
        --model FOLDER --vae FOLDER/vae --json FIGURES.json ddim:50:1.5 dpmpp_2m:20:1.5

For each SAMPLER:STEPS:CFG_SCALE it draws the same number of pictures of every class and gives the
share that the classifier takes for the class asked for, and the Frechet distance between the
classifier's features of the pictures and of held-out photographs (Heusel et al. 2017, with this
classifier in place of Inception). The same distance for photographs trained on and for the
autoencoder's reconstructions says what a perfect DiT could reach.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from model.checkpoint import Checkpoint, load_checkpoint
from model.train.autoencoder import psnr, reconstruct
from model.train.classifier import Classifier, judge, load_classifier
from model.train.generate import Sampling, generate
from model.train.photographs import Photographs, load_photographs


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured on one set of pictures; ``by_class`` is the agreement of each class."""

    name: str
    pictures: int
    agreement: float
    frechet_distance: float
    seconds: float
    by_class: dict[str, float]

    def __str__(self) -> str:
        worst = sorted(self.by_class.items(), key=lambda item: item[1])[:3]
        names = ", ".join(f"{name} {share:.0%}" for name, share in worst)
        return (
            f"| {self.name:24} | {self.pictures:5} | {self.agreement:6.1%} "
            f"| {self.frechet_distance:8.3f} | {names} |"
        )


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Frechet distance of the Gaussians fitted to features (N, F) and (M, F)."""
    x, y = a.double().numpy(), b.double().numpy()
    covariance_x, covariance_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    # tr (A B)^(1/2) is the sum of the roots of A B's eigenvalues, which are real and not below 0.
    eigenvalues = np.linalg.eigvals(covariance_x @ covariance_y).real.clip(min=0)
    means = np.square(x.mean(0) - y.mean(0)).sum()
    traces = np.trace(covariance_x) + np.trace(covariance_y)
    return max(0.0, float(means + traces - 2 * np.sqrt(eigenvalues).sum()))


def balanced(labels: Tensor, num_classes: int, each: int) -> Tensor:
    """Indices of ``each`` photographs of every class, evenly spread over its frames."""
    chosen = []
    for label in range(num_classes):
        places = (labels == label).nonzero().flatten()
        chosen.append(places[torch.linspace(0, len(places) - 1, each).round().long()])
    return torch.cat(chosen)


class Judge:
    """Measures sets of pictures against the held-out photographs."""

    def __init__(self, classifier: Classifier, photographs: Photographs, each: int) -> None:
        self.classifier = classifier
        self.class_names = photographs.class_names
        self.each = each
        self.held_out = self._sample(photographs, held_out=True)
        self.trained_on = self._sample(photographs, held_out=False)
        _, self.features = judge(classifier, self.held_out[0])

    def _sample(self, photographs: Photographs, *, held_out: bool) -> tuple[Tensor, Tensor]:
        images, labels = photographs.part(held_out=held_out)
        chosen = balanced(labels, len(self.class_names), self.each)
        return images[chosen], labels[chosen]

    def measure(self, name: str, images: Tensor, labels: Tensor, seconds: float = 0.0) -> Figures:
        """Measure uint8 pictures (N, 3, S, S) of the classes (N,)."""
        taken_for, features = judge(self.classifier, images)
        right = (taken_for == labels).double()
        shares = [float(right[labels == label].mean()) for label in range(len(self.class_names))]
        return Figures(
            name=name,
            pictures=len(images),
            agreement=float(right.mean()),
            frechet_distance=frechet_distance(features, self.features),
            seconds=seconds,
            by_class=dict(zip(self.class_names, shares)),
        )

    def measure_generated(self, checkpoint: Checkpoint, sampling: Sampling) -> Figures:
        labels = torch.arange(len(self.class_names)).repeat(self.each)
        began = time.monotonic()
        images = generate(checkpoint, labels, sampling)
        return self.measure(str(sampling), images, labels, time.monotonic() - began)


def evaluate(
    judge_: Judge, checkpoint: Checkpoint, vae: AutoencoderKL, samplings: list[Sampling]
) -> list[Figures]:
    """Measure photographs, reconstructions and pictures, printing each row as it is known."""
    images, labels = judge_.held_out
    rows = [
        judge_.measure("held-out photographs", images, labels),
        judge_.measure("photographs trained on", *judge_.trained_on),
        judge_.measure("held-out, reconstructed", reconstruct(vae, images), labels),
    ]
    print("| pictures | count | agreement | Frechet distance | weakest classes |")
    print("|---|---|---|---|---|")
    for row in rows:
        print(row, flush=True)
    for sampling in samplings:
        rows.append(judge_.measure_generated(checkpoint, sampling))
        print(rows[-1], flush=True)
    return rows


def sampling_from(text: str) -> Sampling:
    """Read SAMPLER:STEPS:CFG_SCALE.

    Raises:
        ValueError: it is not spelled so.
    """
    sampler, steps, cfg_scale = text.split(":")
    return Sampling(sampler, int(steps), float(cfg_scale))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of class folders")
    parser.add_argument("--classifier", type=Path, required=True)
    parser.add_argument("--model", default="bundled", help="as DIT_MODEL: default bundled")
    parser.add_argument("--vae", type=Path, required=True, help="the model's autoencoder folder")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--each", type=int, default=20, help="pictures a class")
    parser.add_argument("--json", type=Path, required=True, help="file for the figures")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("samplings", nargs="+", metavar="SAMPLER:STEPS:CFG_SCALE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[options.dtype]
    checkpoint = load_checkpoint(options.model, device=torch.device("cpu"), dtype=dtype)
    vae = AutoencoderKL.from_pretrained(options.vae).eval()
    photographs = load_photographs(options.data, checkpoint.image_size)
    images, labels = photographs.part(held_out=True)
    judge_ = Judge(load_classifier(options.classifier), photographs, options.each)
    whole = judge_.measure("all held-out", images, labels)
    decibels = psnr(reconstruct(vae, images), images)
    print(f"model {checkpoint.name} {checkpoint.digest[:12]}; {len(images)} held-out photographs: ")
    print(f"classifier's accuracy {whole.agreement:.2%}, autoencoder's PSNR {decibels:.2f} dB\n")
    rows = evaluate(judge_, checkpoint, vae, [sampling_from(text) for text in options.samplings])
    facts = {
        "model_digest": checkpoint.digest,
        "held_out_photographs": len(images),
        "classifier_accuracy": whole.agreement,
        "autoencoder_psnr_db": decibels,
        "rows": [asdict(row) for row in rows],
    }
    options.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
