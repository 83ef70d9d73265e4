"""Judge: sets of pictures measured beside photographs, with the eyes of a classifier of photographs."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from model.train.autoencoder.autoencoder import reconstruct
from model.train.data.photographs import Photographs
from model.train.evaluation.classifier import Classifier, judge
from model.train.evaluation.generate import Sampling, generate
from model.train.evaluation.similarity import distances, frechet_distance, nearest, spread
from model.weights.checkpoint import Checkpoint

COPY_QUANTILE = 0.95
"""A picture is called a copy where it is as near to a photograph as so many of the autoencoder's
reconstructions are to their own."""


LEAST_SPREAD = 1e-3
"""In levels: what photographs that are all the same are taken to differ by."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured on one set of pictures.

    ``by_class`` is each class's agreement; ``spread_by_class`` its pictures' mean distance from each
    other, over the same of the photographs trained on. ``nearest`` is the median distance to the
    nearest photograph trained on, in levels of 255, ``copies`` the share that is a photograph but for
    the autoencoder's error.
    """

    name: str
    pictures: int
    agreement: float
    frechet_distance: float
    frechet_to_trained: float
    nearest: float
    copies: float
    seconds: float
    by_class: dict[str, float]
    spread_by_class: dict[str, float]

    @property
    def spread(self) -> float:
        return sum(self.spread_by_class.values()) / len(self.spread_by_class)


class Judge:
    """Measures sets of pictures against the photographs, ``each`` of every class."""

    def __init__(
        self, classifier: Classifier, photographs: Photographs, vae: AutoencoderKL, each: int
    ) -> None:
        self.classifier = classifier
        self.class_names = photographs.class_names
        self.each = each
        self._photographs = photographs.part(held_out=False)
        self.held_out = self._sample(*photographs.part(held_out=True))
        self.trained_on = self._sample(*self._photographs)
        _, self._held_out_features = judge(classifier, self.held_out[0])
        _, self._trained_features = judge(classifier, self.trained_on[0])
        self._spreads = self._by_class(*self.trained_on)
        self.trained_rebuilt = reconstruct(vae, self.trained_on[0])
        own = distances_to_own(self.trained_rebuilt, self.trained_on[0])
        self.copy_distance = float(own.quantile(COPY_QUANTILE))

    def measure(self, name: str, images: Tensor, labels: Tensor, seconds: float = 0.0) -> Figures:
        """Measure uint8 pictures (N, 3, S, S) of the classes (N,)."""
        taken_for, features = judge(self.classifier, images)
        right = (taken_for == labels).double()
        shares = [float(right[labels == label].mean()) for label in range(len(self.class_names))]
        spreads = self._by_class(images, labels)
        away = self._nearest(images, labels)
        return Figures(
            name=name,
            pictures=len(images),
            agreement=float(right.mean()),
            frechet_distance=frechet_distance(features, self._held_out_features),
            frechet_to_trained=frechet_distance(features, self._trained_features),
            nearest=float(away.median()),
            copies=float((away <= self.copy_distance).double().mean()),
            seconds=seconds,
            by_class=dict(zip(self.class_names, shares)),
            spread_by_class={
                each: spreads[each] / max(self._spreads[each], LEAST_SPREAD) for each in spreads
            },
        )

    def measure_generated(self, checkpoint: Checkpoint, sampling: Sampling) -> Figures:
        labels = torch.arange(len(self.class_names)).repeat(self.each)
        began = time.monotonic()
        images = generate(checkpoint, labels, sampling)
        return self.measure(str(sampling), images, labels, time.monotonic() - began)

    def _sample(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        chosen = balanced(labels, len(self.class_names), self.each)
        return images[chosen], labels[chosen]

    def _by_class(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        return {
            name: spread(images[labels == label]) for label, name in enumerate(self.class_names)
        }

    def _nearest(self, images: Tensor, labels: Tensor) -> Tensor:
        """Distance (N,) of each picture to the nearest photograph trained on, of its class."""
        photographs, of = self._photographs
        away = torch.empty(len(images), dtype=torch.double)
        for label in range(len(self.class_names)):
            away[labels == label] = nearest(images[labels == label], photographs[of == label])
        return away


def balanced(labels: Tensor, num_classes: int, each: int) -> Tensor:
    """Indices of ``each`` photographs of every class, or all, evenly spread over its frames.

    Raises:
        ValueError: a class has fewer than two in this part, which have no distance between them.
    """
    chosen = []
    for label in range(num_classes):
        places = (labels == label).nonzero().flatten()
        count = min(each, len(places))
        if count < 2:
            raise ValueError(
                f"class {label} has {count} photographs in a part, must be 2 or more; a tenth of"
                " each run of names is held out"
            )
        chosen.append(places[torch.linspace(0, len(places) - 1, count).round().long()])
    return torch.cat(chosen)


def distances_to_own(pictures: Tensor, photographs: Tensor) -> Tensor:
    """Distance (N,) of each picture to the photograph in the same place."""
    pairs = zip(pictures[:, None], photographs[:, None])
    return torch.stack([distances(picture, own)[0, 0] for picture, own in pairs])
