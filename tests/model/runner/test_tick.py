"""Tick: recording, with torch's graphs replaced by stand-ins that compute at once.

What a capture allows, and whether streams are in order, only a GPU can show.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest
import torch
from torch import Tensor

from model.backends.step import PLAIN_STEP
from model.runner.tick import CAPTURE_TRIALS, Tick
from tests.support.networks import FunctionNetwork


class FakeGraphs:
    """The current stream, and the stream and pool of each capture."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.main, self.side = FakeStream("main"), FakeStream("side")
        self.current: FakeStream = self.main
        self.captures: list[tuple[FakeStream | None, object]] = []
        self.capture_ends_with: BaseException | None = None
        monkeypatch.setattr(torch.cuda, "Stream", self._no_other_stream)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: self.current)
        monkeypatch.setattr(torch.cuda, "stream", self._stream)
        monkeypatch.setattr(torch.cuda, "graph", self._graph)

    def _no_other_stream(self) -> None:
        raise AssertionError("another stream")

    @contextmanager
    def _stream(self, stream: FakeStream) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def _graph(
        self, graph: object, *, pool: object = None, stream: FakeStream | None = None
    ) -> Iterator[None]:
        self.captures.append((stream, pool))
        try:
            yield
        finally:
            if self.capture_ends_with is not None:
                raise self.capture_ends_with


class FakeStream:
    def __init__(self, name: str) -> None:
        self.name = name

    def wait_stream(self, stream: FakeStream) -> None:
        assert stream is not self


class FakeGraph:
    def pool(self) -> object:
        return self


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> FakeGraphs:
    return FakeGraphs(monkeypatch)


class HungryNetwork(FunctionNetwork):
    """Has memory for so many passes."""

    def __init__(self, passes: int) -> None:
        super().__init__(self._answer)
        self.passes = passes

    def _answer(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        self.passes -= 1
        if self.passes < 0:
            raise torch.OutOfMemoryError(f"{len(x)} rows")
        return torch.zeros(len(x), 8, 2, 2)


def tick_with(graphs: FakeGraphs, network: HungryNetwork) -> Tick:
    side = cast("torch.cuda.Stream", graphs.side)
    cpu = torch.device("cpu")
    return Tick(network, PLAIN_STEP, (4, 2, 2), slots=8, rows=8, device=cpu, side=side)


def test_all_ticks_are_captured_on_one_stream_with_one_pool(graphs: FakeGraphs) -> None:
    tick = tick_with(graphs, HungryNetwork(1000))
    for rows in (8, 4, 2, 1):
        tick.record(rows)
    streams, pools = zip(*graphs.captures)
    assert set(streams) == {graphs.side}
    assert pools[0] is None
    assert len(set(pools[1:])) == 1
    assert graphs.current is graphs.main


@pytest.mark.parametrize("passes", [0, CAPTURE_TRIALS])
def test_too_little_memory_for_a_capture_is_not_a_lost_device(
    graphs: FakeGraphs, passes: int
) -> None:
    """Ending a capture that broke for want of memory raises an error of its own."""
    tick = tick_with(graphs, HungryNetwork(passes))
    graphs.capture_ends_with = torch.AcceleratorError("operation failed due to a previous error")
    with pytest.raises(torch.OutOfMemoryError):
        tick.record(8)
    assert graphs.current is graphs.main


def test_a_capture_that_loses_the_device_says_so(graphs: FakeGraphs) -> None:
    tick = tick_with(graphs, HungryNetwork(1000))
    graphs.capture_ends_with = torch.AcceleratorError("unspecified launch failure")
    with pytest.raises(torch.AcceleratorError):
        tick.record(8)
