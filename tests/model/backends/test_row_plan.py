"""A RowPlan makes a product's rows independent of each other, and the cheapest that does is found."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.backends.row_plan import (
    AS_IT_IS,
    PADDED_TO,
    PROBED_ROWS,
    Product,
    RowPlan,
    first_independent,
    plans,
)

TOKENS = 64
ROWS = torch.randn(max(PROBED_ROWS), TOKENS, 2, generator=torch.Generator().manual_seed(0))


def by_count(factor_of: dict[int, float]) -> Product:
    """A product that differs from the number of rows on that ``factor_of`` has."""

    def product(x: Tensor) -> Tensor:
        return x * next(factor_of[least] for least in sorted(factor_of)[::-1] if len(x) >= least)

    return product


@pytest.mark.parametrize(
    ("product", "plan"),
    [
        (by_count({1: 2.0}), AS_IT_IS),
        (by_count({1: 2.0, 2: 3.0}), RowPlan(2)),
        (by_count({1: 2.0, 4: 3.0}), RowPlan(4)),
        (by_count({1: 2.0, 3: 4.0, 16: 3.0}), RowPlan(16)),
        (by_count({1: 2.0, 24: 3.0}), RowPlan(4, 4)),
        (lambda x: x * len(x), RowPlan(4, 4)),
    ],
)
def test_the_first_plan_that_makes_rows_independent_is_found(
    product: Product, plan: RowPlan
) -> None:
    assert first_independent(product, ROWS, plans(TOKENS)) == plan
    planned = plan.applied_to(product)
    together = planned(ROWS)
    assert together.shape == ROWS.shape
    for count in range(1, len(ROWS) + 1):
        assert torch.equal(planned(ROWS[-count:]), together[-count:])


def test_no_plan_helps_where_a_rows_place_matters() -> None:
    def product(x: Tensor) -> Tensor:
        return x + torch.arange(len(x)).view(-1, 1, 1)

    assert first_independent(product, ROWS, plans(TOKENS)) is None


def test_a_product_that_needs_no_plan_is_called_directly() -> None:
    product = by_count({1: 1.0})
    assert AS_IT_IS.applied_to(product) is product


@pytest.mark.parametrize(("tokens", "group"), [(1, 256), (16, 16), (64, 4), (256, 2), (1024, 2)])
def test_groups_hold_as_few_rows_as_a_product_is_fast_with(tokens: int, group: int) -> None:
    expected = [AS_IT_IS, *map(RowPlan, PADDED_TO), RowPlan(group, group)]
    assert plans(tokens) == expected


def test_calls_have_the_rows_of_the_plan() -> None:
    calls: list[int] = []

    def product(x: Tensor) -> Tensor:
        calls.append(len(x))
        return x

    for plan, rows in ((RowPlan(4), 3), (RowPlan(4), 9), (RowPlan(4, 4), 9)):
        assert torch.equal(plan.applied_to(product)(ROWS[:rows]), ROWS[:rows])
    assert calls == [4, 9, 4, 4, 4]
