"""DiT's parameter names, shapes and cost against the official code and the paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from model.networks.dit import DiT, DiT_models
from tests.support.networks import inputs_for, tiny


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


def test_the_twelve_configurations_are_the_papers() -> None:
    heads = {"XL": 16, "L": 16, "B": 12, "S": 6}
    assert set(DiT_models) == {f"DiT-{width}/{p}" for width in heads for p in (2, 4, 8)}
    for name, build in DiT_models.items():
        with torch.device("meta"):
            model = build()
        assert model.num_heads == heads[name[4:-2]], name
        assert model.patch_size == int(name[-1]), name


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
    """The paper's tables, whose Gflops count a multiply-add as one.

    The parameters include the position embedding, which is larger at 512 px.
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
