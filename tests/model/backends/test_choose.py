"""network_for: which network it builds, and what it leaves of the DiT."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest
import torch
from torch import Tensor

from model.backends.choose import fused_network_for, fused_step_for, network_for, step_for
from model.backends.cpu import CpuNetwork, has_onednn_products
from model.backends.eager import EagerNetwork
from model.backends.network import Network
from model.backends.step import PLAIN_STEP
from model.networks.dit import DiT
from tests.support.networks import inputs_for, relative_error, tiny

DTYPES = [torch.float32, torch.bfloat16, torch.float64]  # oneDNN has no float64 products


def network_of(dit: DiT, *, consume: bool = False) -> Network:
    return network_for(dit, timesteps=1000, rows=8, consume=consume)


def whole_inputs_for(dit: DiT) -> tuple[Tensor, Tensor, Tensor]:
    x, t, y = inputs_for(dit)
    return x, t.round(), y


def emptied(dit: DiT) -> set[str]:
    return {name for name, parameter in dit.named_parameters() if parameter.is_meta}


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_network_is_for_the_cpu_where_onednn_has_the_products(dtype: torch.dtype) -> None:
    dit = tiny().to(dtype).eval()
    expected = CpuNetwork if has_onednn_products(dit) else EagerNetwork
    assert type(network_of(dit)) is expected
    assert dtype != torch.float64 or expected is EagerNetwork


def test_nothing_is_compiled_on_a_cpu() -> None:
    dit = tiny().double().eval()
    assert type(network_for(dit, timesteps=1000, rows=8, compile=True)) is EagerNetwork


@torch.no_grad()
def test_without_triton_the_plain_network_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("model.backends.cuda", "model.backends.kernels"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    dit, lines = tiny().eval(), list[str]()
    rows = whole_inputs_for(dit)
    expected = dit(*rows)
    network = fused_network_for(dit, timesteps=1000, consume=True, report=lines.append)
    assert type(network) is EagerNetwork
    assert relative_error(network(*rows), expected) < 1e-5
    assert lines[-1].startswith("running without fused kernels, which is slower: ModuleNotFound")


def test_without_a_driver_the_plain_network_is_used() -> None:
    """Or, on a machine with one, because Triton refuses tensors of the CPU."""
    lines = list[str]()
    network = fused_network_for(tiny(), timesteps=1000, consume=True, report=lines.append)
    assert type(network) is EagerNetwork
    assert lines[-1].startswith("running without fused kernels, which is slower: ")


def test_the_step_is_plain_on_a_cpu() -> None:
    lines = list[str]()
    assert step_for(tiny(), report=lines.append) is PLAIN_STEP
    assert lines == []


def test_without_triton_the_step_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("model.backends.fused_step", "model.backends.kernels"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    lines = list[str]()
    assert fused_step_for(tiny(), report=lines.append) is PLAIN_STEP
    (line,) = lines
    assert line.startswith("running with plain guidance and samplers, which is slower: ModuleNot")


def test_without_a_driver_the_step_is_plain() -> None:
    """Or, on a machine with one, because Triton refuses tensors of the CPU."""
    lines = list[str]()
    assert fused_step_for(tiny(), report=lines.append) is PLAIN_STEP
    (line,) = lines
    assert line.startswith("running with plain guidance and samplers, which is slower: ")


@pytest.mark.parametrize("dtype", DTYPES)
@torch.no_grad()
def test_the_dit_is_left_unchanged(dtype: torch.dtype) -> None:
    dit = tiny().to(dtype).eval()
    rows = whole_inputs_for(dit)
    before, answer = {name: each.clone() for name, each in dit.state_dict().items()}, dit(*rows)
    network = network_of(dit)
    assert relative_error(network(*rows), answer) < (0.05 if dtype == torch.bfloat16 else 1e-5)
    after = dit.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(dit(*rows), answer)


@pytest.mark.parametrize("dtype", DTYPES)
@torch.no_grad()
def test_consuming_changes_no_answer(dtype: torch.dtype) -> None:
    dit = tiny().to(dtype).eval()
    rows = whole_inputs_for(dit)
    expected = network_of(dit)(*rows)
    assert torch.equal(network_of(dit, consume=True)(*rows), expected)


def test_consuming_for_the_cpu_leaves_only_the_position_embedding() -> None:
    dit = tiny().eval()
    if not has_onednn_products(dit):
        pytest.skip("oneDNN does not have the products")
    network_of(dit, consume=True)
    assert emptied(dit) == set(dict(dit.named_parameters())) - {"pos_embed"}
    assert dit.null_class == 10


def test_consuming_for_an_eager_network_empties_the_adaln_layers() -> None:
    dit = tiny().double().eval()
    network_of(dit, consume=True)
    adaln = {name for name, _ in dit.named_parameters() if "adaLN_modulation" in name}
    assert emptied(dit) == adaln


def test_a_network_for_the_cpu_does_not_keep_the_dit_alive() -> None:
    dit = tiny().eval()
    if not has_onednn_products(dit):
        pytest.skip("oneDNN does not have the products")
    rows, network, alive = whole_inputs_for(dit), network_of(dit), weakref.ref(dit)
    del dit
    gc.collect()
    assert alive() is None
    assert network(*rows).isfinite().all()
