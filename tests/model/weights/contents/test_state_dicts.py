"""A DiT's tensors are found wherever a training loop has put them."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from model.networks.dit import DiT
from model.weights.contents.state_dicts import (
    averages_in,
    find_state_dict,
    summary,
    training_arguments,
)
from model.weights.diffusers_names import to_diffusers
from model.weights.errors import CheckpointError
from model.weights.weight_files import WeightFiles
from tests.support.checkpoints import small_dit, write_tensors

State = dict[str, Tensor]
PATH = Path("dit.pt")


@pytest.fixture(scope="module")
def sd() -> State:
    return dict(tiny(0).state_dict())


@pytest.fixture(scope="module")
def raw() -> State:
    """Other weights: those that an average is taken of."""
    return dict(tiny(1).state_dict())


def tiny(seed: int) -> DiT:
    return small_dit(hidden_size=8, num_heads=2, depth=2, seed=seed)


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def wrapped_inside(state: State) -> State:
    """As FSDP, checkpointing or a compiled block name their tensors."""
    return {name.replace("blocks.1.", "blocks.1._orig_mod."): state[name] for name in state}


def same(found: State, state: State) -> bool:
    return found.keys() == state.keys() and all(found[name] is state[name] for name in state)


WRAPPERS = [
    "module.",
    "_orig_mod.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "model.",
    "model.module.",
    "net.",
    "ema_model.",
    "diffusion_model.",
    "model.diffusion_model.",
    "_forward_module.model._orig_mod.",
    "some.thing.of.mine.",
]


@pytest.mark.parametrize("prefix", ["", *WRAPPERS])
@pytest.mark.parametrize("key", [None, "ema", "state_dict", "anything"])
def test_prefixes_come_off(prefix: str, key: str | None, sd: State) -> None:
    state = prefixed(sd, prefix)
    found = find_state_dict(state if key is None else {"epoch": 1, key: state}, PATH)
    assert same(found.tensors, sd)
    assert found.place == ".".join(part for part in (key, prefix.rstrip(".")) if part)


@pytest.mark.parametrize("prefix", WRAPPERS)
def test_prefixes_come_off_diffusers_names_too(prefix: str, sd: State) -> None:
    state = to_diffusers(sd)
    assert same(find_state_dict(prefixed(state, prefix), PATH).tensors, state)


def test_wrappers_come_out_of_the_middle_of_a_name(sd: State) -> None:
    assert same(find_state_dict(wrapped_inside(sd), PATH).tensors, sd)
    everywhere = {
        f"module.{name.replace('.', '._fsdp_wrapped_module.', 1)}": sd[name] for name in sd
    }
    assert same(find_state_dict(everywhere, PATH).tensors, sd)


LOOPS: dict[str, Callable[[State, State], object]] = {
    "official": lambda sd, raw: {"model": raw, "ema": sd, "opt": {"state": {0: raw}}},
    "order": lambda sd, raw: {"ema": sd, "model": raw},
    "ema_state_dict": lambda sd, raw: {"state_dict": raw, "ema_state_dict": sd},
    "model_ema": lambda sd, raw: {"model": raw, "model_ema": sd, "epoch": 3},
    "timm": lambda sd, raw: {"arch": "x", "state_dict": raw, "state_dict_ema": sd},
    "capital": lambda sd, raw: {"MODEL": raw, "EMA": sd},
    "model_state_dict": lambda sd, raw: {"model_state_dict": sd, "epoch": 1},
    "lightning": lambda sd, raw: {"epoch": 1, "state_dict": prefixed(sd, "model.")},
    "lightning-ema": lambda sd, raw: {
        "state_dict": prefixed(raw, "model.") | prefixed(sd, "ema_model.")
    },
    "ema-pytorch": lambda sd, raw: {
        "model": raw,
        "ema": {
            "initted": torch.tensor(True),
            "step": torch.tensor(3),
            **prefixed(raw, "online_model."),
            **prefixed(sd, "ema_model."),
        },
    },
    "swa_utils": lambda sd, raw: {
        "ema": {"n_averaged": torch.tensor(7), **prefixed(sd, "module.")},
        "model": raw,
    },
    "nested": lambda sd, raw: {"app": {"run": {"weights": [{"net": sd}]}}},
    "optimiser-by-name": lambda sd, raw: {"model": sd, "optimizer": {"exp_avg": raw}},
    "flat-optimiser": lambda sd, raw: sd | prefixed(raw, "optimizer.exp_avg."),
    "shadow-list": lambda sd, raw: {"model": sd, "ema": {"shadow_params": [*raw.values()]}},
    "numbered-shadow": lambda sd, raw: (
        sd | {f"ema_params.{i}": tensor for i, tensor in enumerate(raw.values())}
    ),
    "schedule-buffers": lambda sd, raw: (
        prefixed(sd, "model.") | {"betas": torch.ones(9), "alphas_cumprod": torch.ones(9)}
    ),
    "buffers-beside": lambda sd, raw: (
        sd | {"betas": torch.ones(9), "sqrt_one_minus_alphas_cumprod": torch.ones(9)}
    ),
    "other-network": lambda sd, raw: {
        "state_dict": prefixed(sd, "dit.")
        | {
            "vae.decoder.conv_in.weight": torch.ones(2),
            "encoder.blocks.0.attn.qkv.weight": raw["pos_embed"],
        }
    },
    "the-same-twice": lambda sd, raw: {"model": sd, "best": OrderedDict(sd)},
    "non-ema": lambda sd, raw: {"non_ema": raw, "ema": sd},
    "latent-diffusion": lambda sd, raw: {
        "state_dict": prefixed(
            {name: sd["pos_embed"] if name == "pos_embed" else raw[name] for name in raw},
            "model.diffusion_model.",
        )
        | {
            f"model_ema.diffusion_model{name.replace('.', '')}": tensor
            for name, tensor in sd.items()
            if name != "pos_embed"
        }
        | {"model_ema.decay": torch.tensor(0.9), "model_ema.num_updates": torch.tensor(7)}
    },
    "average-of-the-trained": lambda sd, raw: {
        "model": raw | {"pos_embed": sd["pos_embed"]},
        "ema": {name: tensor for name, tensor in sd.items() if name != "pos_embed"},
    },
}


@pytest.mark.parametrize("loop", LOOPS)
def test_the_weights_are_found_where_training_loops_keep_them(
    loop: str, sd: State, raw: State
) -> None:
    assert same(find_state_dict(LOOPS[loop](sd, raw), PATH).tensors, sd)


@pytest.mark.parametrize("ending", ["pt", "pth", "ckpt", "bin", "safetensors"])
def test_files_of_every_kind_are_read_alike(ending: str, sd: State, tmp_path: Path) -> None:
    path = write_tensors(tmp_path / f"x.{ending}", prefixed(sd, "module.ema.net."))
    found = find_state_dict(WeightFiles.from_file(path).read(), path)
    assert found.place == "module.ema.net"
    assert all(torch.equal(found.tensors[name], sd[name]) for name in sd)


def test_an_average_goes_before_others_in_a_flat_file(
    sd: State, raw: State, tmp_path: Path
) -> None:
    path = tmp_path / "x.safetensors"
    save_file(prefixed(raw, "model.") | prefixed(sd, "ema."), path)
    found = find_state_dict(WeightFiles.from_file(path).read(), path)
    assert (found.place, found.others) == ("ema", ("model",))


@pytest.mark.parametrize(
    ("content", "places"),
    [
        (lambda sd, raw: {"generator": sd, "teacher": raw}, "at generator and at teacher"),
        (lambda sd, raw: {"ema": {"0.999": sd, "0.9999": raw}}, "at ema.0.999 and at ema.0.9999"),
        (lambda sd, raw: sd | prefixed(raw, "module."), "at the top and at module"),
    ],
)
def test_two_that_differ_are_refused_by_name(
    content: Callable[[State, State], object], places: str, sd: State, raw: State
) -> None:
    with pytest.raises(CheckpointError, match=places):
        find_state_dict(content(sd, raw), PATH)


def test_a_layer_too_many_is_not_dropped(sd: State) -> None:
    found = find_state_dict(
        {"model": prefixed(sd, "net.") | {"net.text.weight": sd["pos_embed"]}}, PATH
    )
    assert "text.weight" in found.tensors


@pytest.mark.parametrize(
    ("content", "held"),
    [
        (
            {"epoch": 3, "state_dict": {"conv.weight": torch.ones(1)}},
            "1 entries such as conv.weight",
        ),
        ({"weight": torch.ones(1), 5: None}, r"weight \(tensor\), 5 \(NoneType\)"),
        ({str(i): i for i in range(99)}, "93 more"),
        ([1, 2], "a list"),
        (nn.Linear(1, 1), "a Linear"),
        ({"x" * 9999: "y" * 9999}, r"x{40} \(str\)"),
    ],
)
def test_what_is_there_instead_is_listed(content: object, held: str) -> None:
    with pytest.raises(CheckpointError, match=f"no weights of a DiT; it holds .*{held}") as caught:
        find_state_dict(content, PATH)
    assert len(str(caught.value)) < 400


def test_a_file_that_holds_itself_is_searched_once(sd: State) -> None:
    loop: dict[str, object] = {"model": sd}
    loop["again"] = [loop] * 9
    assert same(find_state_dict(loop, PATH).tensors, sd)
    assert "again" in summary(loop)


def test_a_training_scripts_arguments_are_flattened() -> None:
    content = {
        "args": argparse.Namespace(model="DiT-B/4", lr=1e-4),
        "config": {"transport": {"path_type": "Linear"}, "model": {"num_heads": 4}},
    }
    arguments = training_arguments(content)
    assert (arguments["model"], arguments["num_heads"]) == ("DiT-B/4", 4)
    assert arguments["path_type"] == "Linear"
    assert training_arguments([1]) == {}


@pytest.mark.parametrize("place", ["training_args", "model_args", "model_config", "opts", None])
def test_a_training_scripts_arguments_have_many_places(sd: State, place: str | None) -> None:
    told = {"prediction": "velocity"}
    content: dict[str, object] = {"ema": sd, "vae_config": {"num_heads": 8}}
    assert training_arguments(content | ({place: told} if place else told)) == told


@pytest.mark.parametrize(
    "place",
    [
        "ema",
        "ema_model",
        "model_ema",
        "EMA",
        "emaModel",
        "modelEMA",
        "net_ema.module",
        "ema1",
        "ema_0.9999",
        "state_dict_ema",
        "modelema",
        "averaged_model",
        "avg",
        "polyak",
        "swa_model",
        "shadow",
        "ema.ema_model",
    ],
)
def test_keys_that_mean_an_average(place: str) -> None:
    assert averages_in(place) > 0


@pytest.mark.parametrize(
    "place",
    [
        "model",
        "schema",
        "cinema",
        "email",
        "emanuel",
        "non_ema",
        "no_ema",
        "swap_model",
        "state_dict.model",
        "''",
    ],
)
def test_keys_that_do_not(place: str) -> None:
    assert averages_in(place) == 0
