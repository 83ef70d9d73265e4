"""The DiT's training: batches, weights to begin with, runs that continue."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from model.networks.dit import DiT
from model.sampling.schedule import NoiseSchedule
from model.train import __main__ as recipe
from model.train import export, transformer
from model.train.autoencoder.network import small_autoencoder
from model.train.data.latents import sample_batch
from model.train.loss import min_snr_weights, sample_timesteps
from model.train.network import NetworkSpec
from model.train.pretrained import copy_matching_weights
from tests.train.small_networks import SMALL_DIT, random_dit


def test_muon_gets_the_matrices_of_attention_and_mlp() -> None:
    dit = NetworkSpec("small", in_channels=4, input_size=4, num_classes=3).build()
    names = {id(weight): name for name, weight in dit.named_parameters()}
    chosen = [names[id(weight)] for weight in transformer.muon_matrices(dit)]
    layers = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    assert chosen == [f"blocks.{block}.{layer}.weight" for block in range(8) for layer in layers]


def test_half_of_the_timesteps_are_where_a_picture_takes_shape() -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [sample_timesteps(10, generator) for _ in range(400)]
    for t in batches:
        everywhere, shaping = t[::2].sort().values, t[1::2].sort().values
        assert 0 <= everywhere[0] <= everywhere[-1] < 1000
        assert 150 <= shaping[0] <= shaping[-1] < 700
        assert 198 <= everywhere.diff().min() <= everywhere.diff().max() <= 202
        assert 108 <= shaping.diff().min() <= shaping.diff().max() <= 112
    together = torch.cat(batches).float()
    assert together.mean() == pytest.approx((499.5 + 424.5) / 2, abs=5)


def test_the_error_of_nearly_clean_latents_weighs_less() -> None:
    schedule = NoiseSchedule()
    weights = min_snr_weights(schedule)
    snr = torch.from_numpy(schedule.alpha_bar / (1 - schedule.alpha_bar)).float()
    assert (weights[snr <= 5] == 1).all()
    torch.testing.assert_close((weights * snr)[snr > 5], torch.full((int((snr > 5).sum()),), 5.0))
    latents, labels = torch.randn(4, 2, 4, 4, 4), torch.tensor([0, 1, 2, 0])
    # An untrained DiT answers 0, so its error is the noise squared.
    untrained = DiT(**SMALL_DIT | {"num_classes": 3})
    losses = transformer.diffusion_loss(latents, labels, 256)(
        untrained, torch.Generator().manual_seed(1)
    )
    generator = torch.Generator().manual_seed(1)
    sample_batch(latents, 256, generator)
    expected = float(weights[sample_timesteps(256, generator)].mean())
    assert expected < 0.96
    weighed = float(((losses["loss"] - losses["vb"]) / losses["mse"]).detach())
    assert weighed == pytest.approx(expected, abs=0.01)


def test_a_run_of_another_network_is_refused(tmp_path: Path) -> None:
    latents, labels = torch.zeros(4, 2, 4, 4, 4), torch.tensor([0, 1, 2, 0])
    plan, accelerator = transformer.Plan(steps=1, batch_size=2), Accelerator(cpu=True)
    transformer.train(latents, labels, plan, out=tmp_path, accelerator=accelerator)
    before = (tmp_path / "transformer.json").read_text()
    with pytest.raises(ValueError, match="holds a run of another network"):
        transformer.train(latents, labels[labels < 2], plan, out=tmp_path, accelerator=accelerator)
    assert (tmp_path / "transformer.json").read_text() == before
    assert export.averaged_dit(tmp_path).num_classes == 3


def test_a_dit_begins_with_the_weights_that_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = random_dit(num_classes=3)
    names: dict[str, list[str]] = {"a": [], "b": [], "c": []}
    export.export(trained, small_autoencoder(32), names, out=tmp_path, licence="mit")
    own = DiT(**SMALL_DIT | {"num_classes": 5, "input_size": 8})
    table = own.y_embedder.embedding_table.weight.detach().clone()
    places = own.pos_embed.clone()
    copy_matching_weights(own, str(tmp_path))
    assert "untrained: y_embedder.embedding_table.weight\n" in capsys.readouterr().out
    assert torch.equal(own.y_embedder.embedding_table.weight, table)
    assert torch.equal(own.pos_embed, places)
    for mine, theirs in zip(own.blocks.parameters(), trained.blocks.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=1e-3)  # the folder is in fp16
    with pytest.raises(ValueError, match=r"no weights of .* fit"):
        copy_matching_weights(random_dit(hidden_size=48, patch_size=4), str(tmp_path))
    with pytest.raises(ValueError, match="cannot begin with"):
        copy_matching_weights(own, str(tmp_path / "nowhere"))


def test_a_continued_run_no_longer_needs_the_model_it_began_with(tmp_path: Path) -> None:
    latents, labels = torch.randn(4, 2, 4, 4, 4), torch.tensor([0, 1, 2, 0])
    accelerator = Accelerator(cpu=True)
    start, out = tmp_path / "start", tmp_path / "run"
    names: dict[str, list[str]] = {"a": [], "b": [], "c": []}
    export.export(random_dit(num_classes=3), small_autoencoder(32), names, out=start, licence="mit")
    plan = transformer.Plan(steps=1, batch_size=2, begin_with=str(start))
    transformer.train(latents, labels, plan, out=out, accelerator=accelerator)
    shutil.rmtree(start)
    transformer.train(latents, labels, plan, out=out, accelerator=accelerator)
    with pytest.raises(ValueError, match="cannot begin with"):
        transformer.train(latents, labels, plan, out=tmp_path / "anew", accelerator=accelerator)


def test_a_missing_model_to_begin_with_is_noticed_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--data", tmp_path, "--out", tmp_path / "out", "--cpu"]
    arguments += ["--begin-with", tmp_path / "nowhere"]
    monkeypatch.setattr(sys, "argv", ["model.train", *map(str, arguments)])
    with pytest.raises(SystemExit, match="cannot begin with"):
        recipe.main()
