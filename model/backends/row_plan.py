"""RowPlan: calling a product so that a row's bits do not depend on the rows that come with it.

oneDNN chooses its kernel, and with it the order in which a sum is added up, by the number of rows of a
call. It matters for long sums in bfloat16. Padding a call, or calls of always as many rows, avoid it
for less than running the whole network on always as many rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]
"""(N, ..., D) -> (N, ..., D')."""

PROBED_ROWS = (2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 17, 24, 32)
"""Numbers of forward rows among which a row is compared with itself alone."""

PADDED_TO = (2, 4, 8, 16)
"""Least rows of a call that are tried. For the bundled model with AMX, it is 4 on up to two threads."""

GROUP_TOKENS = 256
"""Tokens of a call, at least, where all calls have as many rows: with fewer they take far longer."""


@dataclass(frozen=True, slots=True)
class RowPlan:
    """Calls with fewer than ``least`` rows are padded; ``most`` are the rows of a call, if limited."""

    least: int = 1
    most: int | None = None

    def applied_to(self, product: Product) -> Product:
        """The product, called by this plan."""
        return product if self == AS_IT_IS else lambda x: self._call(product, x)

    def _call(self, product: Product, x: Tensor) -> Tensor:
        if self.most is None or len(x) <= self.most:
            return self._padded(product, x)
        return torch.cat([self._padded(product, part) for part in torch.split(x, self.most)])

    def _padded(self, product: Product, x: Tensor) -> Tensor:
        missing = self.least - len(x)
        if missing <= 0:
            return product(x)
        return product(torch.cat([x, x.new_zeros(missing, *x.shape[1:])]))[: len(x)]


AS_IT_IS = RowPlan()


def plans(tokens: int) -> list[RowPlan]:
    """All plans for rows of ``tokens`` tokens, the cheapest for a few rows first."""
    group = max(2, -(-GROUP_TOKENS // tokens))
    return [AS_IT_IS, *map(RowPlan, PADDED_TO), RowPlan(group, group)]


@torch.inference_mode()
def first_independent(
    product: Product, rows: Tensor, candidates: Iterable[RowPlan]
) -> RowPlan | None:
    """The first plan with which the product gives each of ``rows`` the same bits alone and in company.

    ``rows`` (max(PROBED_ROWS), T, D) should hold many random numbers: where a plan does not, rounding
    to bfloat16 still hides most of it.
    """
    return next(
        (each for each in candidates if _is_independent(each.applied_to(product), rows)), None
    )


def _is_independent(product: Product, rows: Tensor) -> bool:
    together = product(rows)
    alone = (torch.equal(product(rows[i : i + 1])[0], together[i]) for i in range(len(rows)))
    counts = (torch.equal(product(rows[:count]), together[:count]) for count in PROBED_ROWS)
    return all(counts) and all(alone)
