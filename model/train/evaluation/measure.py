"""Measuring sets of pictures against photographs, with a classifier of photographs."""

from __future__ import annotations

import time

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from model.runner.runner import ModelRunner
from model.train.autoencoder.network import reconstruct
from model.train.data.photographs import Photographs
from model.train.data.similarity import nearest, paired_distances, spread
from model.train.evaluation.classifier import Classifier
from model.train.evaluation.figures import Figures
from model.train.evaluation.frechet import frechet_distance
from model.train.evaluation.generate import generate, row_steps
from model.train.evaluation.setting import EvaluationSetting

COPY_QUANTILE = 0.95
"""A copy: closer to a training photo than 95 % of reconstructions are to their originals."""

MIN_SPREAD = 1e-3
"""In levels of 255: avoids a division by zero where all photographs of a class are the same."""


class Evaluator:
    """Measures sets of pictures against ``per_class`` photographs of every class.

    ``held_out`` and ``training`` are these photographs, (images, labels) each;
    ``training_rebuilt`` are the autoencoder's reconstructions of the latter.
    """

    def __init__(
        self,
        classifier: Classifier,
        photographs: Photographs,
        vae: AutoencoderKL,
        *,
        per_class: int,
    ) -> None:
        self.classifier = classifier
        self.class_names = photographs.class_names
        self.per_class = per_class
        self._photographs = photographs.part(held_out=False)
        self.held_out = self._balanced_part(*photographs.part(held_out=True))
        self.training = self._balanced_part(*self._photographs)
        _, self._held_out_features = classifier.predict(self.held_out[0])
        _, self._training_features = classifier.predict(self.training[0])
        self._training_spreads = self._spread_by_class(*self.training)
        self.training_rebuilt = reconstruct(vae, self.training[0])
        errors = paired_distances(self.training_rebuilt, self.training[0])
        self.copy_distance = float(errors.quantile(COPY_QUANTILE))

    def measure(
        self,
        name: str,
        images: Tensor,
        labels: Tensor,
        *,
        seconds: float = 0.0,
        row_steps: float = 0.0,
    ) -> Figures:
        """Measure uint8 pictures (N, 3, S, S) of the classes (N,)."""
        predicted, features = self.classifier.predict(images)
        correct = (predicted == labels).double()
        spreads = self._spread_by_class(images, labels)
        to_nearest = self._distances_to_nearest(images, labels)
        return Figures(
            name=name,
            pictures=len(images),
            agreement=float(correct.mean()),
            frechet_distance=frechet_distance(features, self._held_out_features),
            frechet_to_trained=frechet_distance(features, self._training_features),
            nearest=float(to_nearest.median()),
            copies=float((to_nearest <= self.copy_distance).double().mean()),
            seconds=seconds,
            row_steps=row_steps,
            by_class={
                name: float(correct[labels == label].mean())
                for label, name in enumerate(self.class_names)
            },
            spread_by_class={
                name: value / max(self._training_spreads[name], MIN_SPREAD)
                for name, value in spreads.items()
            },
        )

    def measure_generated(self, runner: ModelRunner, setting: EvaluationSetting) -> Figures:
        """Generate and measure ``per_class`` pictures of every class.

        Raises:
            ValueError: see `generate`.
        """
        labels = torch.arange(len(self.class_names)).repeat(self.per_class)
        started = time.monotonic()
        images = generate(runner, labels, setting)
        return self.measure(
            str(setting),
            images,
            labels,
            seconds=time.monotonic() - started,
            row_steps=row_steps(runner.checkpoint, setting),
        )

    def _balanced_part(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        chosen = balanced(labels, len(self.class_names), self.per_class)
        return images[chosen], labels[chosen]

    def _spread_by_class(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        return {
            name: spread(images[labels == label]) for label, name in enumerate(self.class_names)
        }

    def _distances_to_nearest(self, images: Tensor, labels: Tensor) -> Tensor:
        """Distance (N,) of each picture to the nearest training photograph of its class."""
        photographs, photograph_labels = self._photographs
        found = torch.empty(len(images), dtype=torch.double)
        for label in range(len(self.class_names)):
            same_class = photographs[photograph_labels == label]
            found[labels == label] = nearest(images[labels == label], same_class)
        return found


def balanced(labels: Tensor, num_classes: int, per_class: int) -> Tensor:
    """Indices of ``per_class`` photographs of every class, or of all it has, evenly spaced.

    Raises:
        ValueError: a class has fewer than two photographs in this part, too few for a spread.
    """
    chosen = []
    for label in range(num_classes):
        places = (labels == label).nonzero().flatten()
        count = min(per_class, len(places))
        if count < 2:
            raise ValueError(
                f"class {label} has {count} photographs in this part and needs at least 2; a tenth"
                " of each run of file names is held out"
            )
        chosen.append(places[torch.linspace(0, len(places) - 1, count).round().long()])
    return torch.cat(chosen)
