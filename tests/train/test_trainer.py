"""The optimisation loop: learning rate, resume, moving average, Muon."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from model.train.stages import Stage
from model.train.trainer import MUON_RATE_FACTOR, Loss, Schedule, Trainer, in_words


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    schedule = Schedule(steps=1000, learning_rate=2.0, warmup_steps=100)
    assert schedule.rate(0) == pytest.approx(2.0 / 100)
    assert schedule.rate(49) == pytest.approx(2.0 * 0.5 * (1 - 0.049))
    assert schedule.rate(500) == pytest.approx(1.0)
    assert schedule.rate(1000) == 0.0
    rates = [schedule.rate(step) for step in range(1001)]
    assert max(rates) == pytest.approx(rates[99])


def noisy_network() -> nn.Module:
    """A network that draws from both generators when it trains."""
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 1))


def trainer(schedule: Schedule, state_file: Path, *, muon: bool = False) -> Trainer[nn.Module]:
    network = noisy_network()
    matrices = [weight for weight in network.parameters() if muon and weight.ndim == 2]
    accelerator = Accelerator(cpu=True)
    return Trainer(network, schedule, state_file, accelerator=accelerator, muon_matrices=matrices)


def noisy_loss(network: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    x = torch.randn(16, 4, generator=generator)
    return {"loss": (network(x).squeeze(1) - x.sum(1)).square().mean()}


def interrupted_after(steps: int) -> Loss:
    calls = 0

    def loss(network: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        nonlocal calls
        if calls == steps:
            raise KeyboardInterrupt
        calls += 1
        return noisy_loss(network, generator)

    return loss


@pytest.mark.parametrize("muon", [False, True])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, muon: bool
) -> None:
    schedule = Schedule(steps=9, learning_rate=1e-2, warmup_steps=3)
    whole = trainer(schedule, tmp_path / "whole.pt", muon=muon)
    whole.run(noisy_loss)
    first = trainer(schedule, tmp_path / "parts.pt", muon=muon)
    with pytest.raises(KeyboardInterrupt):
        first.run(interrupted_after(7), save_every=5)
    second = trainer(schedule, tmp_path / "parts.pt", muon=muon)
    second.resume()
    assert second.step == 5
    second.run(noisy_loss)
    for ours, theirs in ((whole.module, second.module), (whole.ema, second.ema)):
        for name, tensor in ours.state_dict().items():
            assert torch.equal(tensor, theirs.state_dict()[name]), name


@pytest.mark.parametrize("steps", [3, 40], ids=["as it warms up", "long after"])
def test_the_average_follows_the_weights(tmp_path: Path, steps: int) -> None:
    schedule = Schedule(steps, learning_rate=1e-2, warmup_steps=1, ema_decay=0.7)
    averaged = trainer(schedule, tmp_path / "state.pt")
    seen: list[Tensor] = []

    def recording(network: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        seen.append(next(network.parameters()).detach().clone())
        return noisy_loss(network, generator)

    averaged.run(recording)
    average = seen[0].clone()
    for step, weights in enumerate([*seen[1:], next(averaged.module.parameters()).detach()], 1):
        decay = min(0.7, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weights
    torch.testing.assert_close(next(averaged.ema.parameters()), average)
    assert not averaged.ema.training


def test_muon_moves_a_matrix_as_far_in_every_direction_and_adamw_the_rest(tmp_path: Path) -> None:
    rate = 1e-2
    schedule = Schedule(steps=1, learning_rate=rate, warmup_steps=1)
    mixed = trainer(schedule, tmp_path / "state.pt", muon=True)
    before = [weight.detach().clone() for weight in mixed.module.parameters()]
    mixed.run(noisy_loss)
    moves = [now.detach() - then for now, then in zip(mixed.module.parameters(), before)]
    for matrix in (moves[0], moves[2]):  # (8, 4) and (1, 8)
        step = MUON_RATE_FACTOR * rate * 0.2 * math.sqrt(max(matrix.shape))
        lengths = torch.linalg.svdvals(matrix) / step
        assert 0.6 < lengths.min() <= lengths.max() < 1.3
    torch.testing.assert_close(moves[3].abs(), torch.tensor([rate]), rtol=1e-3, atol=0)


def test_a_training_with_other_settings_is_not_continued(tmp_path: Path) -> None:
    state_file, accelerator = tmp_path / "autoencoder.state.pt", Accelerator(cpu=True)

    def training(schedule: Schedule, **settings: object) -> Trainer[nn.Module]:
        return Trainer(
            noisy_network(),
            schedule,
            state_file,
            accelerator=accelerator,
            stage=Stage("autoencoder", options={"steps": "--autoencoder-steps"}),
            settings=settings,
        )

    training(Schedule(3, 1e-2), batch_size=16, photographs="4 with hash a").run(noisy_loss)
    before = state_file.read_bytes()
    again = training(Schedule(3, 1e-2), batch_size=16, photographs="4 with hash a")
    again.resume()
    assert again.done
    other = training(Schedule(5, 1e-2, seed=1), batch_size=8, photographs="5 with hash b")
    with pytest.raises(ValueError, match="holds a training of the autoencoder") as caught:
        other.resume()
    for part in (
        str(tmp_path),
        "--autoencoder-steps was 3 and is now 5",
        "--seed was 0 and is now 1",
        "--batch-size was 16 and is now 8",
        "--data or --leave-out was 4 with hash a and is now 5 with hash b",
    ):
        assert part in str(caught.value)
    assert "learning-rate" not in str(caught.value)
    assert state_file.read_bytes() == before


def test_the_log_names_the_stage_and_how_long_it_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = Trainer(
        noisy_network(),
        Schedule(25, 1e-2),
        tmp_path / "state.pt",
        accelerator=Accelerator(cpu=True),
        stage=Stage("wide decoder", "stage 2 of 4"),
    )
    losses: list[float] = []

    def recorded(network: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        terms = noisy_loss(network, generator)
        losses.append(float(terms["loss"].detach()))
        return terms

    steps.run(recorded, log_every=20)
    first, *reports = capsys.readouterr().out.splitlines()
    assert first == "stage 2 of 4, wide decoder: 25 steps"
    parts = [(10, losses[:10]), (20, losses[10:20]), (25, losses[20:])]
    for line, (step, part) in zip(reports, parts, strict=True):
        mean = sum(part) / len(part)
        assert line.startswith(f"stage 2 of 4, wide decoder: step {step}/25  loss {mean:.4f}  ")
        assert re.search(r"  \d+ ms/step  \d+ s left$", line)
    assert reports[-1].endswith(" 0 s left")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (99, "99 s"),
        (100, "2 min"),
        (3540, "59 min"),
        (3599, "1 h 0 min"),
        (3600, "1 h 0 min"),
        (7230, "2 h 0 min"),
        (7199, "2 h 0 min"),
        (90_000, "25 h 0 min"),
    ],
)
def test_the_time_left_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
