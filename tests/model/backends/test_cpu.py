"""CpuNetwork answers like the DiT, and every row as if it were alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from model.backends.cpu import FORESEEN_STEPS, CpuNetwork, PackedLinear, has_onednn_products
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


def packed(model: DiT, *, kept: int = 16 * FORESEEN_STEPS, independent: bool = False) -> CpuNetwork:
    if not has_onednn_products(model):
        pytest.skip("oneDNN does not have the products")
    return CpuNetwork(model, timesteps=1000, kept=kept, independent=independent)


@pytest.mark.parametrize("learn_sigma", [True, False])
@torch.no_grad()
def test_it_answers_like_the_dit(learn_sigma: bool) -> None:
    model = tiny(learn_sigma=learn_sigma).eval()
    rows = rows_for(model, 7)
    assert relative_error(packed(model)(*rows), model(*rows)) < 1e-5


@torch.no_grad()
def test_bfloat16_is_as_accurate_as_the_dits() -> None:
    model = tiny().eval()
    rows = rows_for(model, 7)
    truth = model(*rows)
    half = copy.deepcopy(model).to(torch.bfloat16)
    plain, ours = relative_error(half(*rows), truth), relative_error(packed(half)(*rows), truth)
    assert 0 < ours < 1.5 * plain


@pytest.mark.parametrize("dtype", DTYPES)
@torch.no_grad()
def test_a_rows_bits_do_not_depend_on_the_other_rows(dtype: torch.dtype) -> None:
    model = tiny().to(dtype)
    network = packed(model, independent=True)
    assert network.rows_are_independent
    x, t, y = rows_for(model, 33)
    together = network(x, t, y)
    for count in (1, 2, 5, 16, 32):
        for start in (0, 33 - count):
            part = slice(start, start + count)
            assert torch.equal(network(x[part], t[part], y[part]), together[part])


@torch.no_grad()
def test_a_rows_bits_do_not_depend_on_the_other_rows_with_long_sums_in_bfloat16() -> None:
    """With AMX they do, unless products are called by a plan."""
    model = randomise(DiT(input_size=8, depth=1, num_heads=16, num_classes=9)).bfloat16().eval()
    network = packed(model, independent=True)
    assert network.rows_are_independent
    x, t, y = rows_for(model, 33)
    others = torch.arange(1, 33)
    expected = network(x[:1], t[:1], y[:1])[0]
    for count in (2, 3, 4, 7, 8, 15, 16, 17, 31, 32):
        rows = others[torch.randperm(32)][: count - 1].tolist()
        place = count // 2
        rows.insert(place, 0)
        assert torch.equal(network(x[rows], t[rows], y[rows])[place], expected)


@torch.no_grad()
def test_products_that_depend_on_the_number_of_rows_are_called_by_a_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = PackedLinear.__call__

    def of_many_differs(self: PackedLinear, x: Tensor) -> Tensor:
        return plain(self, x) * (1 if len(x) < 3 else 2)

    monkeypatch.setattr(PackedLinear, "__call__", of_many_differs)
    model = tiny()
    x, t, y = rows_for(model, 9)
    network, careless = packed(model, independent=True), packed(model)
    assert network.rows_are_independent
    assert torch.equal(network(x[:2], t[:2], y[:2]), network(x, t, y)[:2])
    assert not torch.equal(careless(x[:2], t[:2], y[:2]), careless(x, t, y)[:2])


def test_products_that_no_plan_helps_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = PackedLinear.__call__

    def differs_by_place(self: PackedLinear, x: Tensor) -> Tensor:
        return plain(self, x) + torch.arange(len(x)).view(-1, *[1] * (x.dim() - 1))

    monkeypatch.setattr(PackedLinear, "__call__", differs_by_place)
    assert not packed(tiny(), independent=True).rows_are_independent


def test_rows_are_not_called_independent_unless_it_was_asked_for() -> None:
    assert not packed(tiny()).rows_are_independent


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("independent", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@torch.no_grad()
def test_conditioning_of_many_pairs_at_once_is_that_of_each_alone(
    dtype: torch.dtype, independent: bool
) -> None:
    """At 257 pairs of width 256, torch splits elementwise work between threads inside a row."""
    wide = DiT(input_size=8, hidden_size=256, depth=2, num_heads=4, num_classes=10)
    network = packed(randomise(wide).to(dtype), kept=16, independent=independent)
    pairs = [(float(i), i % wide.num_classes) for i in range(257)]
    t, y = torch.tensor([t for t, _ in pairs]), torch.tensor([y for _, y in pairs])
    together = torch.stack(tuple(network.conditioning(t, y)))
    for i in range(241):  # the last 16 are kept, so these are computed again
        alone = torch.stack(tuple(network.conditioning(t[i : i + 1], y[i : i + 1])))
        assert torch.equal(alone[:, 0], together[:, i])


@torch.no_grad()
def test_conditioning_of_long_sums_in_bfloat16_does_not_depend_on_the_number_of_pairs() -> None:
    """With AMX and a width of 1024 or more it does, unless all products have as many pairs."""
    wide = DiT(input_size=4, hidden_size=1152, depth=1, num_heads=16, num_classes=10)
    network = packed(randomise(wide).bfloat16(), kept=16, independent=True)
    t, y = torch.arange(80).float(), torch.arange(80) % wide.num_classes
    together = torch.stack(tuple(network.conditioning(t, y)))
    for pairs in (slice(0, 1), slice(3, 5), slice(10, 30), slice(0, 64)):
        alone = torch.stack(tuple(network.conditioning(t[pairs], y[pairs])))
        assert torch.equal(alone, together[:, pairs])


@torch.no_grad()
def test_gradients_switched_on_change_nothing() -> None:
    model = tiny().eval()
    network = packed(model)
    x, t, y = rows_for(model, 6)
    expected = network(x, t, y)
    with torch.enable_grad():
        answer = network(x, t, y)
    assert torch.equal(answer, expected)
    assert not answer.requires_grad


@torch.no_grad()
def test_guided_rows_are_those_of_the_dit() -> None:
    model = tiny().eval()
    network = packed(model)
    x, t, _ = rows_for(model, 6)
    x, t = torch.cat([x[:3], x[:3]]), torch.cat([t[:3], t[:3]])
    y = torch.tensor([1, 2, 3, 10, 10, 10])
    conditional, unconditional = network(x, t, y)[:, :4].chunk(2)
    guided = unconditional + 3.0 * (conditional - unconditional)
    assert relative_error(guided, model.forward_with_cfg(x, t, y, 3.0)[:3, :4]) < 1e-5


@torch.no_grad()
def test_building_it_twice_gives_the_same_answer() -> None:
    model = tiny()
    rows = rows_for(model, 3)
    assert torch.equal(packed(model)(*rows), packed(model)(*rows))


@torch.no_grad()
def test_patches_other_than_two_and_one_token_are_packed_right() -> None:
    for patch_size in (1, 4, 8):
        model = DiT(
            input_size=8, patch_size=patch_size, hidden_size=64, depth=2, num_heads=2, num_classes=5
        )
        rows = rows_for(randomise(model).eval(), 3)
        assert relative_error(packed(model)(*rows), model(*rows)) < 1e-5
