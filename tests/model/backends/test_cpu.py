"""The packed DiT answers as the plain one, and every row as if it were alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from model.backends.choose import prepare_for_sampling
from model.backends.cpu import PackedDiT
from model.networks.dit import DiT
from tests.support.networks import randomise, relative_error, tiny

DTYPES = [torch.float32, torch.bfloat16]


def rows_for(model: DiT, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(
        rows, model.in_channels, model.input_size, model.input_size, generator=generator
    )
    t = torch.randint(0, 1000, (rows,), generator=generator).float()
    y = torch.randint(0, model.num_classes + 1, (rows,), generator=generator)
    return x, t, y


def packed(model: DiT, rows: int = 8) -> DiT:
    prepared = copy.deepcopy(model).eval()
    prepare_for_sampling(prepared, 1000, rows=rows)
    return prepared


@pytest.mark.parametrize("learn_sigma", [True, False])
@torch.no_grad()
def test_packed_answers_as_the_plain_network(learn_sigma: bool) -> None:
    model = tiny(learn_sigma=learn_sigma).eval()
    rows = rows_for(model, 7)
    assert relative_error(packed(model)(*rows), model(*rows)) < 1e-5


@torch.no_grad()
def test_packed_bfloat16_is_as_near_the_truth_as_plain_bfloat16() -> None:
    model = tiny().eval()
    rows = rows_for(model, 7)
    truth = model(*rows)
    half = copy.deepcopy(model).to(torch.bfloat16)
    plain, ours = relative_error(half(*rows), truth), relative_error(packed(half)(*rows), truth)
    assert 0 < ours < 1.5 * plain


@pytest.mark.parametrize("dtype", DTYPES)
@torch.no_grad()
def test_a_row_comes_out_the_same_whatever_the_rows_beside_it(dtype: torch.dtype) -> None:
    model = packed(tiny().to(dtype))
    x, t, y = rows_for(model, 33)
    together = model(x, t, y)
    for count in (1, 2, 5, 16, 32):
        for start in (0, 33 - count):
            part = slice(start, start + count)
            assert torch.equal(model(x[part], t[part], y[part]), together[part])


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("dtype", DTYPES)
@torch.no_grad()
def test_conditioning_of_many_pairs_at_once_is_that_of_each_alone(dtype: torch.dtype) -> None:
    """At 257 pairs of 256, torch cuts an elementwise operation inside a row, between threads."""
    wide = DiT(input_size=8, hidden_size=256, depth=2, num_heads=4, num_classes=10)
    model = packed(randomise(wide).to(dtype), rows=1)
    assert isinstance(model.stand_in, PackedDiT)
    pairs = [(float(i), i % model.num_classes) for i in range(257)]
    t, y = torch.tensor([t for t, _ in pairs]), torch.tensor([y for _, y in pairs])
    together = torch.stack(tuple(model.stand_in.conditioning(t, y)))
    for i in range(241):  # the last 16 are kept, so these are computed anew
        alone = torch.stack(tuple(model.stand_in.conditioning(t[i : i + 1], y[i : i + 1])))
        assert torch.equal(alone[:, 0], together[:, i])


@torch.no_grad()
def test_packing_leaves_no_second_copy_of_the_weights() -> None:
    model = packed(tiny())
    kept = {name for name, tensor in model.named_parameters() if not tensor.is_meta}
    assert kept == {"pos_embed", "y_embedder.embedding_table.weight"}


@torch.no_grad()
def test_guidance_and_gradients_switched_on_change_nothing() -> None:
    model = tiny().eval()
    ready = packed(model)
    x, t, _ = rows_for(model, 6)
    y = torch.tensor([1, 2, 3, 10, 10, 10])
    expected = model.forward_with_cfg(x, t, y, 3.0)
    assert relative_error(ready.forward_with_cfg(x, t, y, 3.0), expected) < 1e-5
    with torch.enable_grad():
        assert torch.equal(ready(x, t, y), ready.eval()(x, t, y))


@torch.no_grad()
def test_preparing_twice_changes_nothing() -> None:
    ready = packed(tiny())
    rows = rows_for(ready, 3)
    before = ready(*rows)
    prepare_for_sampling(ready, 1000, rows=8)
    assert torch.equal(ready(*rows), before)


@torch.no_grad()
def test_patches_other_than_two_and_one_token_are_packed_right() -> None:
    for patch_size in (1, 4, 8):
        model = DiT(
            input_size=8, patch_size=patch_size, hidden_size=64, depth=2, num_heads=2, num_classes=5
        )
        rows = rows_for(randomise(model).eval(), 3)
        assert relative_error(packed(model)(*rows), model(*rows)) < 1e-5
