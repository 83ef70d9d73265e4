"""DiT at inference: guidance, loading and copying weights, dtypes."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from model.networks.dit import DiT, DiT_models
from tests.support.networks import inputs_for, pairs_for, randomise, relative_error, tiny


def by_two_forwards(
    model: DiT, rows: tuple[Tensor, Tensor, Tensor], cfg_scale: float | Tensor, channels: int
) -> Tensor:
    """Guidance written out: mixes the noise of two forwards, leaves the other channels alone."""
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


@pytest.mark.parametrize("assign", [False, True])
def test_a_model_uses_loaded_weights(assign: bool) -> None:
    model, other = tiny().eval(), tiny(seed=3).eval()
    model.load_state_dict(other.state_dict(), assign=assign)
    rows = inputs_for(model)
    with torch.no_grad():
        assert torch.equal(model(*rows), other(*rows))


def test_a_model_uses_weights_changed_in_place() -> None:
    """By an optimiser, a moving average or a copy, all in eval mode."""
    model, other = tiny().eval(), tiny(seed=3).eval()
    rows = inputs_for(model)
    before = model(*rows).detach()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(*rows).square().mean().backward()
    optimizer.step()
    with torch.no_grad():
        assert not torch.equal(model(*rows), before)
        torch._foreach_lerp_(list(model.parameters()), list(other.parameters()), 1.0)
        assert relative_error(model(*rows), other(*rows)) < 1e-5
    for ours, theirs in zip(model.parameters(), other.parameters()):
        ours.data.copy_(theirs)
    with torch.no_grad():
        assert torch.equal(model(*rows), other(*rows))


def test_weights_load_onto_a_model_on_meta() -> None:
    other = tiny().eval()
    with torch.device("meta"):
        model = DiT(input_size=8, hidden_size=64, depth=3, num_heads=4, num_classes=10).eval()
    partial = dict(list(other.state_dict().items())[:-2])
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict(partial, assign=True)
    model.load_state_dict(other.state_dict(), assign=True)
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
def test_copies_are_independent(duplicate: Callable[[DiT], DiT]) -> None:
    model = tiny().eval()
    twin = duplicate(model)
    rows = inputs_for(model)
    with torch.no_grad():
        before = model(*rows)
        assert torch.equal(twin(*rows), before)
        randomise(twin, seed=3)
        assert torch.equal(model(*rows), before)
        assert relative_error(twin(*rows), before) > 0.1


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_change_of_dtype_changes_little(dtype: torch.dtype) -> None:
    model = tiny().eval()
    rows = inputs_for(model)
    with torch.no_grad():
        before = model(*rows)
        after = model.to(dtype)(*rows)
    assert 0 < relative_error(after, before) < (0.05 if dtype == torch.bfloat16 else 1e-5)


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


def test_weights_go_through_safetensors(tmp_path: Path) -> None:
    model, other = tiny().eval(), tiny(seed=3).eval()
    safetensors.torch.save_file(model.state_dict(), tmp_path / "dit.safetensors")
    other.load_state_dict(safetensors.torch.load_file(tmp_path / "dit.safetensors"))
    rows = inputs_for(model)
    with torch.no_grad():
        assert torch.equal(model(*rows), other(*rows))


@pytest.mark.gpu
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
