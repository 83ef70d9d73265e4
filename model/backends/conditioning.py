"""Conditioning: the adaLN vectors of (timestep, label) pairs, computed ahead and kept a while.

They depend on nothing else, and their product reads a third of all weights whatever the rows: at two
rows it is memory traffic alone. So it is taken for several steps of an image at once, and images
that share a timestep share what the null class has there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

Pair = tuple[float, int]
"""A timestep and a class label."""


class Conditioning:
    """Timesteps (N,) and labels (N,) -> every adaLN vector, each (N, 1, D).

    Args:
        embed: timesteps and labels -> the network's conditioning (N, D).
        vectors: that -> all vectors (N, V, 1, D); a row must not depend on those beside it.
        kept: pairs that are kept; the ones asked for longest ago go first.
    """

    def __init__(
        self,
        embed: Callable[[Tensor, Tensor], Tensor],
        vectors: Callable[[Tensor], Tensor],
        *,
        kept: int,
    ) -> None:
        self._embed = embed
        self._vectors = vectors
        self._limit = kept
        self._kept: OrderedDict[Pair, Tensor] = OrderedDict()

    def __len__(self) -> int:
        """Pairs that are kept now."""
        return len(self._kept)

    def foresee(self, pairs: Iterable[Pair]) -> None:
        """Compute what is missing of these pairs, in one product."""
        self._complete(pairs)
        self._forget()

    def __call__(self, t: Tensor, y: Tensor) -> Sequence[Tensor]:
        pairs = list(zip(t.tolist(), y.tolist()))
        self._complete(pairs)
        for pair in pairs:
            self._kept.move_to_end(pair)
        vectors = torch.stack([self._kept[pair] for pair in pairs]).unbind(1)  # each (N, 1, D)
        self._forget()
        return vectors

    def _complete(self, pairs: Iterable[Pair]) -> None:
        missing = [pair for pair in dict.fromkeys(pairs) if pair not in self._kept]
        if not missing:
            return
        timesteps, labels = zip(*missing)
        c = self._embed(torch.tensor(timesteps), torch.tensor(labels))
        rows = self._vectors(c).unbind(0)  # each (V, 1, D)
        self._kept.update({pair: row.clone() for pair, row in zip(missing, rows)})

    def _forget(self) -> None:
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)
