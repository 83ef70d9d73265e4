"""The evaluator: which pictures are copies, what it measures on a set, and what it measures against."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model.train.data.photographs import Photographs
from model.train.data.similarity import paired_distances
from model.train.evaluation.classifier import Classifier
from model.train.evaluation.figures import Figures
from model.train.evaluation.measure import Evaluator, balanced

SIDE = 8
TRAINED_ON = ((0, 20, 40, 60), (120, 140, 160, 180))
HELD_OUT = ((80, 90), (230, 250))
"""The photographs' grey levels, by class."""


def grey(*levels: int) -> Tensor:
    """Flat pictures (N, 3, S, S); two are as far apart as their levels."""
    return torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, SIDE, SIDE)


def photographs() -> Photographs:
    levels = [level for part in (*TRAINED_ON, *HELD_OUT) for level in part]
    return Photographs(
        images=grey(*levels),
        labels=torch.tensor([0] * 4 + [1] * 4 + [0] * 2 + [1] * 2),
        held_out=torch.tensor([False] * 8 + [True] * 4),
        class_names=("dark", "light"),
        files=(Path("unread"),) * len(levels),
    )


class Eyes(Classifier):
    """Takes what is darker than the middle for class 0, else for class 1; sees red and green."""

    def __init__(self) -> None:
        super().__init__(num_classes=2)
        self.head = torch.nn.Linear(2, 2)
        self.head.load_state_dict(
            {"weight": torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), "bias": torch.zeros(2)}
        )

    def features(self, pixels: Tensor) -> Tensor:
        return pixels[:, :2].mean((2, 3))


@dataclass(frozen=True, slots=True)
class Rebuilding:
    """An autoencoder that makes of every level l the level l * gain + offset."""

    gain: float = 1.0
    offset: float = 0.0

    def encode(self, pixels: Tensor) -> Any:
        return _Encoded(_Latents(pixels))

    def decode(self, latents: Tensor) -> Any:
        return _Decoded((latents + 1) * self.gain + self.offset / 127.5 - 1)


@dataclass(frozen=True, slots=True)
class _Latents:
    mean: Tensor


@dataclass(frozen=True, slots=True)
class _Encoded:
    latent_dist: _Latents


@dataclass(frozen=True, slots=True)
class _Decoded:
    sample: Tensor


def evaluator_of(vae: Any, each: int = 4, known: Photographs | None = None) -> Evaluator:
    return Evaluator(Eyes().eval(), known or photographs(), vae, per_class=each)


def measured(label: int, *levels: int, each: int = 4) -> Figures:
    """What is said of flat pictures of one class and two of the other, which are no copies."""
    other = grey(220, 225) if label == 0 else grey(95, 100)
    labels = torch.tensor([label] * len(levels) + [1 - label] * 2)
    images = torch.cat([grey(*levels), other])
    return evaluator_of(Rebuilding(offset=4), each).measure("pictures", images, labels)


def test_a_picture_as_near_to_a_photograph_as_a_reconstruction_is_a_copy() -> None:
    assert evaluator_of(Rebuilding(offset=4)).copy_distance == 4
    figures = measured(0, 0, 24, 25, 49, 50)  # 0, 4, 5, 9 and 10 from the nearest
    assert figures.copies == pytest.approx(2 / 7)
    assert measured(0, 16, 24, 44, 56).copies == pytest.approx(4 / 6)
    assert measured(1, 50, 150, 200).copies == 0


def test_five_reconstructions_of_a_hundred_may_be_worse_than_a_copy() -> None:
    # Its errors are 0, 2, 4, 6, 12, 14, 16 and 18 levels: 0.95 of the way lies between the last two.
    assert evaluator_of(Rebuilding(gain=1.1)).copy_distance == pytest.approx(16 + 0.65 * 2)


def test_a_photograph_of_another_class_is_no_copy() -> None:
    assert measured(0, 140, 160).copies == 0
    assert measured(1, 140, 160).copies == pytest.approx(2 / 4)
    assert measured(0, 140, 140, 140).nearest == 80, "to 60, the lightest of the dark ones"


def test_a_photograph_held_out_is_no_copy() -> None:
    assert measured(0, *HELD_OUT[0]).copies == 0


def test_copies_are_looked_for_beyond_the_sample() -> None:
    evaluator = evaluator_of(Rebuilding(offset=4), each=2)
    assert evaluator.training[0][:, 0, 0, 0].tolist() == [0, 60, 120, 180]
    assert measured(0, 20, 40, each=2).copies == pytest.approx(2 / 4)


def test_the_distance_told_is_the_median_one() -> None:
    # 0, 3, 7 and twice 10 from the dark ones; the light ones are 40 and 45 from 180
    assert measured(0, 0, 23, 47, 50, 70).nearest == 10


def test_agreement_is_the_share_that_is_taken_for_its_class() -> None:
    images, labels = grey(10, 130, 20, 100, 30, 200), torch.tensor([0, 1, 0, 1, 0, 0])
    figures = evaluator_of(Rebuilding()).measure("mixed", images, labels)
    assert figures.by_class == {"dark": 0.75, "light": 0.5}
    assert figures.agreement == pytest.approx(4 / 6)
    assert figures.pictures == 6


def test_spread_is_over_that_of_the_photographs_trained_on_by_class() -> None:
    of_photographs = (20 * 3 + 40 * 2 + 60) / 6
    images, labels = grey(10, 100, 20, 180), torch.tensor([0, 1, 0, 1])
    figures = evaluator_of(Rebuilding()).measure("mixed", images, labels)
    expected = {"dark": 10 / of_photographs, "light": 80 / of_photographs}
    assert figures.spread_by_class == pytest.approx(expected)
    assert figures.spread == pytest.approx(45 / of_photographs)


def test_photographs_that_are_all_the_same_have_a_spread_to_divide_by() -> None:
    known = photographs()
    same = torch.where((known.labels == 0)[:, None, None, None], grey(50), known.images)
    evaluator = evaluator_of(Rebuilding(), known=replace(known, images=same))
    figures = evaluator.measure("mixed", grey(50, 50, 100, 180), torch.tensor([0, 0, 1, 1]))
    assert figures.spread_by_class["dark"] == 0
    assert 0 < figures.spread < 10


def test_each_frechet_distance_is_to_its_own_photographs() -> None:
    evaluator = evaluator_of(Rebuilding())
    held_out = evaluator.measure("held-out", *evaluator.held_out)
    trained_on = evaluator.measure("trained on", *evaluator.training)
    assert held_out.frechet_distance == pytest.approx(0, abs=1e-6)
    assert trained_on.frechet_to_trained == pytest.approx(0, abs=1e-6)
    assert held_out.frechet_to_trained == pytest.approx(trained_on.frechet_distance)
    assert trained_on.frechet_distance > 0.1


def test_what_the_autoencoder_makes_of_the_photographs_is_kept() -> None:
    evaluator = evaluator_of(Rebuilding(offset=4))
    levels = [level + 4 for part in TRAINED_ON for level in part]
    assert evaluator.training_rebuilt[:, 0, 0, 0].tolist() == levels


def test_paired_distances_are_pair_by_pair() -> None:
    assert paired_distances(grey(0, 50, 9), grey(3, 40, 9)).tolist() == [3, 10, 0]


def test_a_balanced_sample_repeats_no_photograph() -> None:
    labels = torch.tensor([0] * 5 + [1] * 3)
    assert balanced(labels, 2, per_class=4).tolist() == [0, 1, 3, 4, 5, 6, 7]
    with pytest.raises(ValueError, match="class 2 has 0 photographs"):
        balanced(labels, 3, per_class=4)
    with pytest.raises(ValueError, match="class 1 has 1 photographs"):
        balanced(torch.tensor([0, 0, 1]), 2, per_class=4)
    assert balanced(torch.tensor([1, 0, 1, 0]), 2, per_class=4).tolist() == [1, 3, 0, 2]
