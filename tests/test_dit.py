"""DiT against diffusers' transformer, the paper's figures and its own formulas."""

import copy
import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from diffusers import DiTTransformer2DModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from model.dit import DiT, DiT_models, LabelEmbedder, TimestepEmbedder
from model.naming import to_diffusers

TOLERANCE = 1e-4  # largest error over largest value, fp32


def randomise(model: DiT, seed: int = 0) -> DiT:
    """Give every trainable parameter weights under which every part of the model matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                fan_in = parameter[0].numel() if parameter.ndim > 1 else 10
                parameter.normal_(std=fan_in**-0.5, generator=generator)
    return model


def tiny(*, seed: int = 0, class_dropout_prob: float = 0.1, learn_sigma: bool = True) -> DiT:
    model = DiT(
        input_size=8,
        hidden_size=64,
        depth=3,
        num_heads=4,
        num_classes=10,
        class_dropout_prob=class_dropout_prob,
        learn_sigma=learn_sigma,
    )
    return randomise(model, seed)


def inputs_for(model: DiT, rows: int = 3, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, timesteps (whole ones and one fractional) and labels, the null class among them."""
    generator = torch.Generator().manual_seed(seed)
    size = model.input_size
    x = torch.randn(rows, model.in_channels, size, size, generator=generator)
    t = torch.tensor([999.0, 0.0, 417.25, 1.0, 650.0, 3.0])[:rows]
    last = model.num_classes if model.null_class is not None else model.num_classes - 1
    y = torch.tensor([last, 0, last // 2, 1, 0, last])[:rows]
    return x, t, y


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def per_block(model: DiT, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """The model's answer with every block's adaLN projection taken by itself."""
    with torch.enable_grad():
        answer: Tensor = model(x, t, y)
    return answer.detach()


def cosines_and_sines(t: Tensor, dim: int, steps: int) -> Tensor:
    """The timestep embedding in float64, frequencies from 1 down by 10000 ** (1 / steps) each."""
    frequencies = 10000.0 ** (-np.arange(dim // 2) / steps)
    angles = np.outer(t.double().numpy(), frequencies)
    return torch.from_numpy(np.concatenate([np.cos(angles), np.sin(angles)], axis=1))


# Equality with diffusers


def peer_of(model: DiT) -> DiTTransformer2DModel:
    """The peer under the same weights, as the hub's DiT folders configure it."""
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
    """Undo where diffusers departs from the official code: the frequencies and one epsilon."""
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
        ("DiT-B/4", 2, 32, 1000),
        ("DiT-S/2", 1, 64, 1),
        ("DiT-S/2", 12, 32, 10),
    ],
)
def test_forward_equals_diffusers(name: str, depth: int, input_size: int, num_classes: int) -> None:
    model = DiT_models[name](
        depth=depth, input_size=input_size, num_classes=num_classes, downscale_freq_shift=1
    )
    peer = peer_of(randomise(model))
    assert error_against(peer, model) < TOLERANCE
    model.t_embedder.downscale_freq_shift = 0
    assert error_against(make_official(peer), model) < TOLERANCE


@pytest.mark.parametrize("learn_sigma", [True, False])
def test_the_official_frequencies_are_the_default(learn_sigma: bool) -> None:
    model = tiny(learn_sigma=learn_sigma)
    peer = peer_of(model)
    assert error_against(peer, model) > 10 * TOLERANCE
    assert error_against(make_official(peer), model) < TOLERANCE


# Timesteps


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


# Labels


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


# Initialisation and training


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
            assert weight.abs().max() > 0.06, name  # a normal's tails, no uniform's
        elif name != "pos_embed":
            rows, columns = weight.flatten(1).shape
            bound = math.sqrt(6 / (rows + columns))  # Glorot & Bengio 2010
            assert 0.98 * bound < weight.abs().max() <= bound, name
            assert abs(weight.std().item() - bound / math.sqrt(3)) < 0.03 * bound, name


def test_gradients_reach_every_trainable_parameter() -> None:
    """From the fresh weights on: zero gates let the gradient through after a few steps."""
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


# Shapes, names and cost


def official_shapes(name: str, tokens: int, classes: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the official checkpoints, written from the official models.py."""
    D, depth = {"XL": (1152, 28), "L": (1024, 24), "B": (768, 12), "S": (384, 12)}[name[4:-2]]
    p = int(name[-1])
    shapes: dict[str, tuple[int, ...]] = {
        "pos_embed": (1, tokens, D),
        "x_embedder.proj.weight": (D, 4, p, p),
        "y_embedder.embedding_table.weight": (classes + 1, D),
    }
    linears = {
        "t_embedder.mlp.0": (D, 256),
        "t_embedder.mlp.2": (D, D),
        "final_layer.linear": (p * p * 8, D),
        "final_layer.adaLN_modulation.1": (2 * D, D),
    }
    for block in range(depth):
        linears |= {
            f"blocks.{block}.attn.qkv": (3 * D, D),
            f"blocks.{block}.attn.proj": (D, D),
            f"blocks.{block}.mlp.fc1": (4 * D, D),
            f"blocks.{block}.mlp.fc2": (D, 4 * D),
            f"blocks.{block}.adaLN_modulation.1": (6 * D, D),
        }
    shapes |= {f"{layer}.weight": shape for layer, shape in linears.items()}
    shapes |= {f"{layer}.bias": shape[:1] for layer, shape in linears.items()}
    return shapes | {"x_embedder.proj.bias": (D,)}


@pytest.mark.parametrize(("input_size", "num_classes"), [(32, 1000), (64, 71)])
@pytest.mark.parametrize("name", DiT_models)
def test_state_dict_is_the_official_one(name: str, input_size: int, num_classes: int) -> None:
    with torch.device("meta"):
        model = DiT_models[name](input_size=input_size, num_classes=num_classes)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    tokens = (input_size // int(name[-1])) ** 2
    assert shapes == official_shapes(name, tokens, num_classes)


def test_the_twelve_configurations_have_their_usual_names() -> None:
    assert sorted(DiT_models) == sorted(
        f"DiT-{w}/{p}" for w in ("XL", "L", "B", "S") for p in (2, 4, 8)
    )


@pytest.mark.parametrize(
    ("name", "input_size", "parameters", "billions"),
    [
        ("DiT-S/8", 32, 33e6, 0.36),
        ("DiT-S/4", 32, 33e6, 1.41),
        ("DiT-S/2", 32, 33e6, 6.06),
        ("DiT-B/8", 32, 131e6, 1.42),
        ("DiT-B/4", 32, 130e6, 5.56),
        ("DiT-B/2", 32, 130e6, 23.01),
        ("DiT-L/8", 32, 459e6, 5.01),
        ("DiT-L/4", 32, 458e6, 19.70),
        ("DiT-L/2", 32, 458e6, 80.71),
        ("DiT-XL/8", 32, 676e6, 7.39),
        ("DiT-XL/4", 32, 675e6, 29.05),
        ("DiT-XL/2", 32, 675e6, 118.64),
        ("DiT-XL/2", 64, 676e6, 524.60),
    ],
)
def test_size_and_cost_are_the_papers(
    name: str, input_size: int, parameters: float, billions: float
) -> None:
    """The paper's tables; its Gflops count a multiplication with its addition as one.

    (The parameters are those with the position embedding, which is larger at 512 px.)
    """
    with torch.device("meta"):
        model = DiT_models[name](input_size=input_size).eval()
        x, t, y = inputs_for(model, rows=1)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x.to("meta"), t.to("meta"), y.to("meta"))
    macs = counter.get_total_flops() / 2e9
    assert abs(sum(p.numel() for p in model.parameters()) - parameters) <= 0.6e6
    assert abs(macs - billions) <= 0.01 + 2e-4 * billions


def test_xl_2_has_as_many_parameters_as_the_official_one() -> None:
    with torch.device("meta"):
        model = DiT_models["DiT-XL/2"]()
    assert sum(p.numel() for p in model.parameters()) == 675_129_632
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 674_834_720


@pytest.mark.parametrize(("input_size", "patch_size"), [(32, 2), (64, 4)])
def test_position_embedding_is_the_formula(input_size: int, patch_size: int) -> None:
    width, side = 144, input_size // patch_size
    model = DiT(input_size=input_size, patch_size=patch_size, hidden_size=width, depth=1)
    expected = np.empty((side, side, width))
    for k in range(width // 4):
        omega = 10000 ** (-4 * k / width)
        for place in range(side):
            sine, cosine = math.sin(place * omega), math.cos(place * omega)
            expected[:, place, k], expected[:, place, width // 4 + k] = sine, cosine
            expected[place, :, width // 2 + k], expected[place, :, 3 * width // 4 + k] = (
                sine,
                cosine,
            )
    assert not model.pos_embed.requires_grad
    np.testing.assert_allclose(model.pos_embed[0], expected.reshape(-1, width), atol=1e-6)


@pytest.mark.parametrize(("patch_size", "learn_sigma"), [(2, True), (4, False), (8, True)])
def test_unpatchify_undoes_patchify(patch_size: int, learn_sigma: bool) -> None:
    model = DiT(
        patch_size=patch_size, hidden_size=16, depth=1, num_heads=1, learn_sigma=learn_sigma
    )
    side, channels = 32 // patch_size, model.out_channels
    x = torch.randn(3, channels, 32, 32)
    patches = x.unfold(2, patch_size, patch_size).unfold(3, patch_size, patch_size)
    patches = patches.permute(0, 2, 3, 4, 5, 1).reshape(3, side * side, -1)
    assert torch.equal(model.unpatchify(patches), x)


def test_patch_embedding_reads_row_by_row() -> None:
    model = tiny()
    x = torch.randn(1, 4, 8, 8)
    tokens = model.x_embedder(x)
    weight, bias = model.x_embedder.proj.weight, model.x_embedder.proj.bias
    assert bias is not None
    third_of_second_row = x[:, :, 2:4, 4:6].flatten(1) @ weight.flatten(1).T + bias
    torch.testing.assert_close(tokens[:, 1 * 4 + 2], third_of_second_row)


@pytest.mark.parametrize("learn_sigma", [True, False])
def test_answer_has_variance_channels_where_learned(learn_sigma: bool) -> None:
    model = tiny(learn_sigma=learn_sigma)
    answer = model(*inputs_for(model))
    assert answer.shape == (3, 8 if learn_sigma else 4, 8, 8)


@pytest.mark.parametrize(
    ("input_size", "patch_size", "hidden_size", "num_heads"),
    [(9, 2, 64, 4), (8, 2, 64, 5), (8, 2, 6, 2)],
)
def test_sizes_that_do_not_divide_are_refused(
    input_size: int, patch_size: int, hidden_size: int, num_heads: int
) -> None:
    with pytest.raises(ValueError, match="does not divide"):
        DiT(
            input_size=input_size,
            patch_size=patch_size,
            hidden_size=hidden_size,
            num_heads=num_heads,
            depth=1,
        )


# Guidance


def pairs_for(model: DiT, images: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    x, t, y = inputs_for(model, rows=images)
    y = torch.cat([torch.arange(images), torch.full((images,), model.num_classes)])
    return torch.cat([x, torch.full_like(x, math.nan)]), torch.cat([t, t]), y


def by_two_forwards(
    model: DiT, rows: tuple[Tensor, Tensor, Tensor], cfg_scale: float | Tensor, channels: int
) -> Tensor:
    """Guidance written out: the noise of both forwards mixed, the other channels left alone."""
    x, t, y = (part.chunk(2) for part in rows)
    conditional, unconditional = model(x[0], t[0], y[0]), model(x[0], t[0], y[1])
    guided = unconditional + cfg_scale * (conditional - unconditional)
    halves = [guided[:, :channels], guided[:, :channels]]
    rests = [conditional[:, channels:], unconditional[:, channels:]]
    return torch.cat([torch.cat(halves), torch.cat(rests)], dim=1)


@pytest.mark.parametrize("learn_sigma", [True, False])
@pytest.mark.parametrize("cfg_channels", [None, 3])
@pytest.mark.parametrize("cfg_scale", [4.0, 1.0, torch.tensor([1.5, 4.0, 20.0])])
def test_guidance_is_the_formula(
    cfg_scale: float | Tensor, cfg_channels: int | None, learn_sigma: bool
) -> None:
    model = tiny(learn_sigma=learn_sigma).eval()
    rows = pairs_for(model)
    by_image = cfg_scale[:, None, None, None] if isinstance(cfg_scale, Tensor) else cfg_scale
    with torch.no_grad():
        ours = model.forward_with_cfg(*rows, cfg_scale, cfg_channels=cfg_channels)
        expected = by_two_forwards(model, rows, by_image, cfg_channels or 4)
    assert ours.shape == expected.shape
    assert relative_error(ours, expected) < 1e-5


def test_guidance_of_one_number_equals_the_same_for_each_image() -> None:
    model = tiny().eval()
    rows = pairs_for(model)
    with torch.no_grad():
        one = model.forward_with_cfg(*rows, 4.0)
        each = model.forward_with_cfg(*rows, torch.full((3,), 4.0))
        none = model.forward_with_cfg(*rows, torch.zeros(()))
    assert torch.equal(one, each)
    assert not torch.allclose(one, none)


def test_guidance_one_is_the_conditional_answer() -> None:
    model = tiny().eval()
    x, t, y = pairs_for(model)
    with torch.no_grad():
        guided = model.forward_with_cfg(x, t, y, 1.0)
        conditional = model(x[:3], t[:3], y[:3])
    assert relative_error(guided[:3], conditional) < 1e-5


def test_guidance_gives_both_halves_the_same_noise() -> None:
    model = tiny().eval()
    with torch.no_grad():
        answer = model.forward_with_cfg(*pairs_for(model), 4.0)
    assert torch.equal(answer[:3, :4], answer[3:, :4])
    assert not torch.equal(answer[:3, 4:], answer[3:, 4:])


# The adaLN projections in one product


def assert_shared_answer_is_right(model: DiT) -> None:
    rows = inputs_for(model)
    with torch.no_grad():
        shared = model(*rows)
    assert relative_error(shared.float(), per_block(model, *rows).float()) < 1e-6


def projections_taken(model: DiT) -> Iterator[bool]:
    """For training, eval with gradients and inference: whether blocks project for themselves."""
    calls: list[nn.Module] = []
    for block in model.blocks:
        adaln = block.get_submodule("adaLN_modulation")
        adaln.register_forward_hook(lambda module, *_: calls.append(module))
    for training, gradients in ((True, True), (False, True), (False, False)):
        calls.clear()
        with torch.set_grad_enabled(gradients):
            model.train(training)(*inputs_for(model))
        yield len(calls) == len(model.blocks)


def test_inference_takes_all_projections_in_one_product() -> None:
    assert list(projections_taken(tiny())) == [True, True, False]


def test_one_product_gives_the_same_answer() -> None:
    assert_shared_answer_is_right(tiny().eval())
    assert_shared_answer_is_right(randomise(DiT_models["DiT-XL/2"](depth=2, input_size=8)).eval())


def test_one_product_follows_a_change_of_mode() -> None:
    model = tiny().eval()
    first = per_block(model, *inputs_for(model))
    randomise(model.train(), seed=2)
    assert_shared_answer_is_right(model.eval())
    assert relative_error(per_block(model, *inputs_for(model)), first) > 0.1


def test_one_product_follows_changes_in_place() -> None:
    """An optimiser, a moving average, a copy: all of them while in eval mode."""
    model, other = tiny().eval(), tiny(seed=3).eval()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(*inputs_for(model)).square().mean().backward()
    optimizer.step()
    assert_shared_answer_is_right(model)
    with torch.no_grad():
        torch._foreach_lerp_(list(model.parameters()), list(other.parameters()), 0.5)
    assert_shared_answer_is_right(model)
    for ours, theirs in zip(model.parameters(), other.parameters()):
        ours.data.copy_(theirs)
    rows = inputs_for(model)
    with torch.no_grad():
        assert torch.equal(model(*rows), other(*rows))


@pytest.mark.parametrize("assign", [False, True])
def test_one_product_follows_loaded_weights(assign: bool) -> None:
    model, other = tiny().eval(), tiny(seed=3).eval()
    model.load_state_dict(other.state_dict(), assign=assign)
    rows = inputs_for(model)
    with torch.no_grad():
        assert torch.equal(model(*rows), other(*rows))
        other.final_layer.adaLN_modulation.linear.weight.zero_()
    assert_shared_answer_is_right(model)
    assert_shared_answer_is_right(other)


def test_weights_load_onto_a_model_without_any() -> None:
    other = tiny().eval()
    with torch.device("meta"):
        model = DiT(input_size=8, hidden_size=64, depth=3, num_heads=4, num_classes=10).eval()
    partial = dict(list(other.state_dict().items())[:-2])
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict(partial, assign=True)
    model.load_state_dict(other.state_dict(), assign=True)
    assert list(projections_taken(model))[-1] is False
    rows = inputs_for(model)
    with torch.no_grad():
        assert torch.equal(model(*rows), other(*rows))


def copied(model: DiT) -> DiT:
    return copy.deepcopy(model)


def pickled(model: DiT) -> DiT:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    assert isinstance(loaded, DiT)
    return loaded


@pytest.mark.parametrize("duplicate", [copied, pickled])
def test_copies_stand_for_themselves(duplicate: Callable[[DiT], DiT]) -> None:
    model = tiny().eval()
    twin = duplicate(model)
    before = per_block(model, *inputs_for(model))
    randomise(twin, seed=3)
    assert_shared_answer_is_right(twin)
    assert_shared_answer_is_right(model)
    assert torch.equal(per_block(model, *inputs_for(model)), before)
    assert list(projections_taken(twin))[-1] is False


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_one_product_follows_a_change_of_dtype(dtype: torch.dtype) -> None:
    model = tiny().eval()
    x, t, y = inputs_for(model)
    before = per_block(model, x, t, y)
    model.to(dtype)
    with torch.no_grad():
        after = model(x, t, y)
    assert relative_error(after, before) < (0.05 if dtype == torch.bfloat16 else 1e-5)
    torch.testing.assert_close(after, per_block(model, x, t, y), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("latents", [torch.float32, torch.bfloat16, torch.float16])
def test_answer_has_the_latents_dtype(weights: torch.dtype, latents: torch.dtype) -> None:
    model = tiny().to(weights).eval()
    x, t, y = inputs_for(model)
    with torch.no_grad():
        assert model(x.to(latents), t, y).dtype == latents
        rows = pairs_for(model)
        guided = model.forward_with_cfg(rows[0].to(latents), *rows[1:], torch.full((3,), 4.0))
    assert guided.dtype == latents
    assert guided.isfinite().all()


def test_shared_weights_go_through_safetensors(tmp_path: Path) -> None:
    model, other = tiny().eval(), tiny(seed=3).eval()
    safetensors.torch.save_file(model.state_dict(), tmp_path / "dit.safetensors")
    other.load_state_dict(safetensors.torch.load_file(tmp_path / "dit.safetensors"))
    rows = inputs_for(model)
    with torch.no_grad():
        assert torch.equal(model(*rows), other(*rows))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same_answer() -> None:
    model = randomise(DiT_models["DiT-XL/2"](depth=2)).eval()
    rows = inputs_for(model)
    with torch.no_grad():
        here = model(*rows)
        model.cuda()
        there = model(*(part.cuda() for part in rows)).cpu()
        model.bfloat16()
        coarse = model(*(part.cuda() for part in rows)).cpu()
    assert relative_error(there, here) < 1e-3
    assert relative_error(coarse, here) < 0.05
