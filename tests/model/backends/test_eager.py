"""EagerNetwork answers like the DiT, with one adaLN product instead of one per layer."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from model.backends.compiled import CompiledNetwork
from model.backends.eager import EagerNetwork
from model.networks.dit import DiT_models
from tests.support.networks import inputs_for, randomise, relative_error, tiny


@torch.no_grad()
def test_one_product_gives_the_same_answer() -> None:
    for model in (tiny(), randomise(DiT_models["DiT-XL/2"](depth=2, input_size=8))):
        x, t, y = inputs_for(model.eval())
        network = EagerNetwork(model, timesteps=1000)
        assert relative_error(network(x, t.round(), y), model(x, t.round(), y)) < 1e-6


@torch.no_grad()
def test_all_adaln_products_are_taken_as_one() -> None:
    model = tiny().eval()
    network = EagerNetwork(model, timesteps=1000)
    calls: list[nn.Module] = []
    for layer in model.modulations:
        layer.register_forward_hook(lambda module, *_: calls.append(module))
    rows = inputs_for(model)
    network(*rows)
    assert calls == []
    model(*rows)
    assert calls == model.modulations


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_the_answer_has_the_latents_dtype(dtype: torch.dtype) -> None:
    model = tiny().eval()
    x, t, y = inputs_for(model)
    network = EagerNetwork(model.to(torch.bfloat16), timesteps=1000)
    assert network(x.to(dtype), t, y).dtype == dtype


@torch.inference_mode()
def test_it_compiles_to_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a compiler: torch.compile's tracing is tested, not the code that it generates."""
    traced = partial(torch.compile, backend="eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", traced)
    model = tiny().eval()
    network = EagerNetwork(model, timesteps=1000)
    compiled = CompiledNetwork(network)
    assert (compiled.rows_are_independent, compiled.foreseen_steps) == (False, 0)
    compiled.foresee([(3.0, 1)])
    for rows in (3, 2):
        inputs = inputs_for(model, rows)
        assert torch.equal(compiled(*inputs), network(*inputs))
