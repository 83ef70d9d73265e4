"""Graph and Capture: stand-ins for torch.cuda.CUDAGraph and torch.cuda.graph."""

from __future__ import annotations

from types import TracebackType

from tests.support.fake_cuda.misuse import DeviceMisuse
from tests.support.fake_cuda.streams import KERNEL_S, Device, Stream


class Graph:
    """Launches that were captured, to be repeated as one; a device's first graph is number 0."""

    def __init__(self, fake: Device, keep_graph: bool = False) -> None:
        self._fake = fake
        self.number = fake.graphs_made
        fake.graphs_made += 1
        self.names: tuple[str, ...] = ()
        self.shared_pool: tuple[int, int] | None = None

    def pool(self) -> tuple[int, int]:
        return self.shared_pool or (0, self.number)

    def replay(self) -> None:
        if not self.names:
            raise DeviceMisuse("a graph is replayed that nothing was captured in")
        self._fake.launch(f"replay of graph {self.number}", KERNEL_S * len(self.names))

    def reset(self) -> None:
        self.names = ()


class Capture:
    """A context in which launches go into a graph instead of a stream."""

    def __init__(
        self,
        fake: Device,
        graph: Graph,
        pool: tuple[int, int] | None = None,
        stream: Stream | None = None,
        capture_error_mode: str = "global",
    ) -> None:
        self._fake = fake
        self._graph = graph
        graph.shared_pool = pool
        self._stream = stream
        self._before = fake.stream

    def __enter__(self) -> None:
        self._fake.finish("a capture's start")
        self._before = self._fake.stream
        self._fake.stream = self._stream or self._before
        self._fake.capture = []

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._graph.names = tuple(self._fake.capture or ())
        self._fake.capture = None
        self._fake.stream = self._before
        if error is not None:
            self._graph.reset()
