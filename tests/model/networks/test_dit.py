"""DiT against diffusers' transformer; its embedders, initial weights and training."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import DiTTransformer2DModel
from torch import Tensor

from model.networks.dit import DiT, DiT_models
from model.networks.embedders import LabelEmbedder, TimestepEmbedder
from model.weights.diffusers_names import to_diffusers
from tests.support.networks import inputs_for, randomise, relative_error, tiny

TOLERANCE = 1e-4  # largest error over largest value, fp32
TIGHT_TOLERANCE = 1e-5  # where only rounding may differ


def cosines_and_sines(t: Tensor, dim: int, steps: int) -> Tensor:
    """The timestep embedding in float64; each frequency is 10000 ** (1 / steps) below the last."""
    frequencies = 10000.0 ** (-np.arange(dim // 2) / steps)
    angles = np.outer(t.double().numpy(), frequencies)
    return torch.from_numpy(np.concatenate([np.cos(angles), np.sin(angles)], axis=1))


def peer_of(model: DiT) -> DiTTransformer2DModel:
    """diffusers' transformer with the same weights, configured as in the hub's DiT folders."""
    hidden_size = model.pos_embed.shape[-1]
    peer = DiTTransformer2DModel(
        num_attention_heads=model.num_heads,
        attention_head_dim=hidden_size // model.num_heads,
        in_channels=model.in_channels,
        out_channels=model.out_channels,
        num_layers=len(model.blocks),
        sample_size=model.input_size,
        patch_size=model.patch_size,
        num_embeds_ada_norm=model.num_classes,
    )
    peer.load_state_dict(to_diffusers(model.state_dict()))
    return peer.eval()


def make_official(peer: DiTTransformer2DModel) -> DiTTransformer2DModel:
    """Undo diffusers' two departures from the official code: the frequencies and one epsilon."""
    for block in peer.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0
        block.norm3.eps = 1e-6
    return peer


def error_against(peer: DiTTransformer2DModel, model: DiT) -> float:
    x, t, y = inputs_for(model)
    with torch.no_grad():
        theirs = peer(x, timestep=t, class_labels=y).sample
        ours = model.eval()(x, t, y)
    assert theirs.std() > 0.1
    return relative_error(ours, theirs)


@pytest.mark.parametrize(
    ("name", "depth", "input_size", "num_classes"),
    [
        ("DiT-XL/2", 2, 32, 1000),
        ("DiT-XL/4", 1, 64, 71),
        ("DiT-L/8", 1, 64, 2),
        ("DiT-B/4", 1, 32, 1000),
        ("DiT-S/2", 1, 64, 1),
        ("DiT-S/2", 8, 32, 10),
    ],
)
def test_forward_equals_diffusers(name: str, depth: int, input_size: int, num_classes: int) -> None:
    model = DiT_models[name](
        depth=depth, input_size=input_size, num_classes=num_classes, downscale_freq_shift=1
    )
    peer = peer_of(randomise(model))
    assert error_against(peer, model) < TOLERANCE
    model.t_embedder.downscale_freq_shift = 0
    assert error_against(make_official(peer), model) < TIGHT_TOLERANCE


@pytest.mark.parametrize("learn_sigma", [True, False])
def test_the_official_frequencies_are_the_default(learn_sigma: bool) -> None:
    model = tiny(learn_sigma=learn_sigma)
    peer = peer_of(model)
    assert error_against(peer, model) > 10 * TOLERANCE
    assert error_against(make_official(peer), model) < TIGHT_TOLERANCE


@pytest.mark.parametrize(("downscale_freq_shift", "steps"), [(0, 128), (1, 127)])
def test_timestep_embedding_is_the_formula(downscale_freq_shift: int, steps: int) -> None:
    t = torch.cat([torch.arange(1000.0), torch.tensor([0.5, 417.25, 998.9])])
    ours = TimestepEmbedder.timestep_embedding(t, 256, downscale_freq_shift=downscale_freq_shift)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), cosines_and_sines(t, 256, steps), rtol=0, atol=3e-4)


def test_timestep_embedding_of_odd_width_ends_in_zero() -> None:
    embedding = TimestepEmbedder.timestep_embedding(torch.tensor([3.0]), 7)
    assert embedding.shape == (1, 7)
    assert embedding[0, 6] == 0
    assert embedding[0, 5] != 0


def test_fractional_timesteps_lie_between_whole_ones() -> None:
    model = tiny().eval()
    x, _, y = inputs_for(model, rows=1)
    with torch.no_grad():
        at = [model(x, torch.tensor([t]), y) for t in (10, 10.0, 10.01, 10.5)]
    assert torch.equal(at[0], at[1])
    near, far = (at[2] - at[1]).norm(), (at[3] - at[1]).norm()
    assert 0 < near < 0.1 * far


def dropped_share(embedder: LabelEmbedder, draws: int) -> float:
    labels = torch.randint(embedder.num_classes, (draws,))
    return (embedder.token_drop(labels) == embedder.num_classes).float().mean().item()


@pytest.mark.parametrize("dropout_prob", [0.1, 0.5])
def test_label_dropout_rate(dropout_prob: float) -> None:
    torch.manual_seed(0)
    draws = 100_000
    deviation = math.sqrt(dropout_prob * (1 - dropout_prob) / draws)
    share = dropped_share(LabelEmbedder(1000, 4, dropout_prob), draws)
    assert abs(share - dropout_prob) < 4 * deviation


def test_labels_are_dropped_in_training_mode_only() -> None:
    torch.manual_seed(0)
    embedder = LabelEmbedder(10, 16, 0.1)
    table, labels = embedder.embedding_table.weight, torch.arange(10).repeat(200)
    kept = (embedder.eval()(labels) == table[labels]).all(1)
    assert kept.all()
    kept = (embedder.train()(labels) == table[labels]).all(1)
    assert torch.equal(embedder(labels[:0]), table[:0])
    assert 0.05 < 1 - kept.float().mean().item() < 0.15


@pytest.mark.parametrize("training", [True, False])
def test_labels_are_dropped_where_forced(training: bool) -> None:
    embedder = LabelEmbedder(10, 16, 0.9).train(training)
    table = embedder.embedding_table.weight
    answer = embedder(torch.tensor([3, 4, 5]), torch.tensor([0, 1, 0]))
    assert torch.equal(answer, table[[3, 10, 5]])


def test_model_drops_labels_in_training_mode_only() -> None:
    model = tiny(class_dropout_prob=0.5)
    x, t, _ = inputs_for(model, rows=1)
    x, t, y = x.repeat(64, 1, 1, 1), t.repeat(64), torch.full((64,), 3)
    torch.manual_seed(0)
    distinct = [
        len(torch.unique(model.train(mode)(x, t, y).round(decimals=3), dim=0))
        for mode in (True, False)
    ]
    assert distinct == [2, 1]


def test_null_class_is_the_last_row_where_there_is_one() -> None:
    assert tiny().null_class == 10
    without = tiny(class_dropout_prob=0)
    assert without.null_class is None
    assert without.y_embedder.embedding_table.num_embeddings == 10


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["DiT-S/2", "DiT-S/8"])
def test_fresh_model_answers_exactly_zero(name: str, training: bool) -> None:
    model = DiT_models[name](depth=2).train(training)
    x, t, y = inputs_for(model)
    answer = model(x, t, y)
    assert answer.shape == (3, 8, 32, 32)
    assert torch.count_nonzero(answer) == 0


def test_fresh_weights_are_the_papers() -> None:
    torch.manual_seed(0)
    model = DiT_models["DiT-S/2"](depth=2)
    for name, weight in model.named_parameters():
        zero = "adaLN_modulation" in name or name.startswith("final_layer")
        if zero or name.endswith("bias"):
            assert torch.count_nonzero(weight) == 0, name
        elif name.startswith(("y_embedder", "t_embedder")):
            assert abs(weight.std().item() - 0.02) < 0.02 * 0.03, name
            assert weight.abs().max() > 0.06, name  # a normal's tails, not a uniform's
        elif name != "pos_embed":
            rows, columns = weight.flatten(1).shape
            bound = math.sqrt(6 / (rows + columns))  # Glorot & Bengio 2010
            assert 0.98 * bound < weight.abs().max() <= bound, name
            assert abs(weight.std().item() - bound / math.sqrt(3)) < 0.03 * bound, name


def test_gradients_reach_every_trainable_parameter() -> None:
    """Starting from fresh weights: zero gates let the gradient through after a few steps."""
    torch.manual_seed(0)
    model = tiny()
    model.initialize_weights()
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    x, t, y = inputs_for(model.train(), rows=6)
    for _ in range(4):
        optimizer.zero_grad()
        (model(x, t, y) - 1).square().mean().backward()
        optimizer.step()
    for name, parameter in trainable.items():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.norm() > 0, name
        assert not torch.equal(parameter, before[name]), name
    assert set(before) - set(trainable) == {"pos_embed"}
    assert torch.equal(model.pos_embed, before["pos_embed"])


def test_training_under_bfloat16_autocast_answers_in_the_latents_dtype() -> None:
    model = tiny().train()
    x, t, y = inputs_for(model)
    with torch.autocast("cpu", torch.bfloat16):
        answer = model(x, t, y)
    answer.square().mean().backward()
    assert answer.dtype == torch.float32
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
