"""Conditioning is computed once per pair, ahead of time if foreseen, and dropped eventually."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.backends.conditioning import Conditioning
from model.backends.cpu import FORESEEN_STEPS, CpuNetwork
from model.runner.runner import ModelRunner
from model.sampling.parameters import WHOLE_RANGE, Sampling
from model.sampling.schedule import NoiseSchedule
from model.sampling.trajectory import plan_trajectory
from tests.support.networks import network_of
from tests.support.services import load_small_checkpoint

WIDTH = 4


class Counted:
    """A conditioning whose vectors tell their pair, and which lists the pairs of every product."""

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


def test_missing_pairs_are_computed_once_and_together() -> None:
    counted = Counted(kept=8)
    counted.conditioning.foresee([(5.0, 1), (4.0, 1), (5.0, 1)])
    counted.ask((4.0, 1), (4.0, 2), (4.0, 2), (3.0, 2))
    counted.ask((5.0, 1), (3.0, 2))
    assert counted.products == [[(5.0, 1), (4.0, 1)], [(4.0, 2), (3.0, 2)]]


def test_the_least_recently_used_are_dropped() -> None:
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


def test_a_tick_of_more_pairs_than_are_kept_gets_all_of_them() -> None:
    counted = Counted(kept=1)
    (shifts, _) = counted.ask((1.0, 0), (2.0, 0), (3.0, 0))
    assert shifts[:, 0, 0].tolist() == [1.0, 2.0, 3.0]
    assert len(counted.conditioning) == 1


def test_the_runner_foresees_the_steps_of_every_image(pipeline_folder: Path) -> None:
    checkpoint = load_small_checkpoint(pipeline_folder)
    network = network_of(checkpoint, max_rows=8)
    if not isinstance(network, CpuNetwork):
        pytest.skip("oneDNN does not have the products")
    runner = ModelRunner(checkpoint, network, max_rows=8)
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
        kept.append(len(network.conditioning))
    assert kept == [2 * FORESEEN_STEPS] * FORESEEN_STEPS + [2 * steps] * 3
