"""Conditioning: the adaLN vectors of (timestep, label) pairs, computed ahead and kept for a while.

They depend on nothing else. Their product reads a third of all weights whatever the number of rows:
at two rows it is limited by memory bandwidth. So it is taken for several steps of an image at once,
and images at the same timestep share the null class's vectors.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from model.backends.network import Pair


class Conditioning:
    """Timesteps (N,) and labels (N,) -> all adaLN vectors, (N, 1, D) each.

    Args:
        embed: timesteps and labels -> the network's conditioning (N, D).
        vectors: conditioning -> all vectors (N, V, 1, D); a row must not depend on the others.
        kept: the number of pairs to keep; the least recently used are dropped first.
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
        """The number of pairs kept now."""
        return len(self._kept)

    def foresee(self, pairs: Iterable[Pair]) -> None:
        """Compute those of the pairs that are missing, in one product."""
        self._complete(pairs)
        self._evict()

    def __call__(self, t: Tensor, y: Tensor) -> Sequence[Tensor]:
        pairs = list(zip(t.tolist(), y.tolist()))
        self._complete(pairs)
        for pair in pairs:
            self._kept.move_to_end(pair)
        vectors = torch.stack([self._kept[pair] for pair in pairs]).unbind(1)  # V of (N, 1, D)
        self._evict()
        return vectors

    def _complete(self, pairs: Iterable[Pair]) -> None:
        missing = [pair for pair in dict.fromkeys(pairs) if pair not in self._kept]
        if not missing:
            return
        timesteps, labels = zip(*missing)
        c = self._embed(torch.tensor(timesteps), torch.tensor(labels))
        rows = self._vectors(c).unbind(0)  # (V, 1, D) each
        self._kept.update({pair: row.clone() for pair, row in zip(missing, rows)})

    def _evict(self) -> None:
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)
