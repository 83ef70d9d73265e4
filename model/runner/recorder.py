"""Recorder: records the ticks of a runner on CUDA, with the attention that is fastest there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from model.backends.attention import BACKENDS, fastest_backend
from model.networks.dit import DiT
from model.runner.tick import Tick


class Recorder:
    """Records a tick at several row counts.

    In reproducible mode torch chooses the attention, which is always the same choice; timing could
    pick different kernels at two starts.
    """

    def __init__(self, tick: Tick, dit: DiT, *, reproducible: bool) -> None:
        _, tokens, width = dit.pos_embed.shape
        self._tick = tick
        self._reproducible = reproducible
        self._attention_shape = (
            dit.num_heads,
            tokens,
            width // dit.num_heads,
        )  # of a row's q, k, v
        self._dtype = dit.pos_embed.dtype
        self._device = dit.pos_embed.device

    @torch.inference_mode()
    def record(self, row_counts: Sequence[int], report: Callable[[str], None]) -> None:
        """Record the tick of every row count; reports each.

        Raises:
            torch.OutOfMemoryError: not enough device memory.
        """
        counts = sorted(row_counts, reverse=True)  # the largest allocates for all
        with sdpa_kernel(self._attention(counts[0], report)):
            for rows in counts:
                report(f"recording the tick of {rows} rows")
                self._tick.record(rows)

    def _attention(self, rows: int, report: Callable[[str], None]) -> list[SDPBackend]:
        if self._reproducible:
            return list(BACKENDS)
        shape = (rows, *self._attention_shape)
        return [fastest_backend(shape, dtype=self._dtype, device=self._device, report=report)]
