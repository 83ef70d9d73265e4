"""The conditioning is computed once for a pair, ahead where it is foreseen, and forgotten in time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.backends.conditioning import Conditioning
from model.backends.cpu import FORESEEN_STEPS, PackedDiT
from model.sampling.parameters import WHOLE_RANGE, Sampling
from model.sampling.schedule import NoiseSchedule
from model.sampling.trajectory import plan_trajectory
from tests.support.services import load_small_runner

WIDTH = 4


class Counted:
    """A conditioning whose vectors say what they were made of, and which keeps every product."""

    def __init__(self, kept: int) -> None:
        self.products: list[list[tuple[float, float]]] = []
        self.conditioning = Conditioning(self._embed, self._vectors, kept=kept)

    def ask(self, *pairs: tuple[float, int]) -> Sequence[Tensor]:
        timesteps, labels = zip(*pairs)
        return self.conditioning(torch.tensor(timesteps), torch.tensor(labels))

    @staticmethod
    def _embed(t: Tensor, y: Tensor) -> Tensor:
        return torch.stack([t, y.float()], dim=1)

    def _vectors(self, c: Tensor) -> Tensor:
        self.products.append([(t, y) for t, y in c.tolist()])
        both = c + torch.tensor([0.0, 10.0])
        return both[:, :, None, None].expand(-1, 2, 1, WIDTH)


def test_every_row_gets_the_vectors_of_its_own_pair() -> None:
    shifts, scales = Counted(kept=8).ask((5.0, 1), (6.0, 2), (5.0, 1))
    assert shifts.shape == scales.shape == (3, 1, WIDTH)
    assert shifts[:, 0, 0].tolist() == [5.0, 6.0, 5.0]
    assert scales[:, 0, 0].tolist() == [11.0, 12.0, 11.0]


def test_a_pair_is_computed_once_and_together_with_the_others_that_are_missing() -> None:
    counted = Counted(kept=8)
    counted.conditioning.foresee([(5.0, 1), (4.0, 1), (5.0, 1)])
    counted.ask((4.0, 1), (4.0, 2), (4.0, 2), (3.0, 2))
    counted.ask((5.0, 1), (3.0, 2))
    assert counted.products == [[(5.0, 1), (4.0, 1)], [(4.0, 2), (3.0, 2)]]


def test_those_asked_for_longest_ago_are_forgotten() -> None:
    counted = Counted(kept=2)
    counted.ask((1.0, 0))
    counted.ask((2.0, 0))
    counted.ask((1.0, 0))
    counted.ask((3.0, 0))
    assert len(counted.conditioning) == 2
    counted.products.clear()
    counted.ask((1.0, 0), (3.0, 0))
    assert counted.products == []
    counted.ask((2.0, 0))
    assert counted.products == [[(2.0, 0)]]


def test_a_tick_of_more_pairs_than_are_kept_has_all_of_them() -> None:
    counted = Counted(kept=1)
    (shifts, _) = counted.ask((1.0, 0), (2.0, 0), (3.0, 0))
    assert shifts[:, 0, 0].tolist() == [1.0, 2.0, 3.0]
    assert len(counted.conditioning) == 1


def test_the_runner_foresees_the_steps_of_every_image(pipeline_folder: Path) -> None:
    runner = load_small_runner(pipeline_folder, max_rows=8)
    packed = runner.checkpoint.dit.stand_in
    if not isinstance(packed, PackedDiT):
        pytest.skip("this CPU has no packed products")
    steps = FORESEEN_STEPS + 3
    sampling = Sampling(
        class_label=1,
        cfg_scale=2.0,
        num_sampling_steps=steps,
        sampler="ddim",
        seed=0,
        guidance_interval=WHOLE_RANGE,
    )
    trajectory = plan_trajectory(NoiseSchedule(), sampling)
    flight = runner.join(trajectory)
    kept = []
    while not flight.done:
        runner.tick([flight])
        kept.append(len(packed.conditioning))
    assert kept == [2 * FORESEEN_STEPS] * FORESEEN_STEPS + [2 * steps] * 3
