"""Run: visits of every kind to a service, and samples of its process meanwhile."""

from __future__ import annotations

import http.client
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.drills.soak.mix import KINDS, Body, Kind, Visitor
from tests.drills.soak.sampling import Sample, sample

CLIENTS = 3
CROWD = 6
IMAGES = 16
"""Of a request, at most; twice as many rows fill a tick."""

REMEMBERED = 20


@dataclass(slots=True, eq=False)
class Tally:
    """What came of the visits, by kind and answer, and the first few that were not expected."""

    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def visits(self) -> int:
        return self.answers.total()

    def note(self, kind: Kind, answer: str) -> None:
        with self.lock:
            self.answers[kind.name, answer] += 1
            if answer not in kind.expected and len(self.unexpected) < REMEMBERED:
                self.unexpected.append(f"{kind.name}: {answer}")

    def of(self, *kinds: str) -> Counter[str]:
        """Answers of these kinds."""
        found: Counter[str] = Counter()
        for (kind, answer), count in self.answers.items():
            found[answer] += count if kind in kinds else 0
        return +found


def visit(kind: Kind, visitor: Visitor, tally: Tally) -> None:
    """One visit; that there is no answer is noted as an answer."""
    try:
        answer = kind.visit(visitor)
    except (OSError, http.client.HTTPException) as error:
        answer = type(error).__name__
    tally.note(kind, answer)


class Load:
    """Clients that come for as long as they are let, with a pause after each visit.

    Args:
        host: with its port.
        pause_s: the mean of a client's pauses.
    """

    def __init__(self, host: str, *, pause_s: float, seed: int) -> None:
        self.tally = Tally()
        self._host = host
        self._pause_s = pause_s
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(seed * 1000 + number,), daemon=True)
            for number in range(CLIENTS)
        ]

    def visit_all(self) -> None:
        """Visits of each kind, each the largest, of more clients at once than come later: what is built
        at first use, or grows with the crowd, is there afterwards."""
        crowd = [
            threading.Thread(target=self._visit_each, args=(number,)) for number in range(CROWD)
        ]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()

    def tick_all(self) -> None:
        """Ticks of every number of rows, and passes of the decoder of every number of images: oneDNN
        keeps what it prepares for each, 5 to 13 MB for a number of rows of the bundled model."""
        with ThreadPoolExecutor(2) as pool:
            for images in range(1, IMAGES + 1):
                self._tick(images, 3)
            for images in range(1, IMAGES + 1):
                full = pool.submit(self._tick, IMAGES, 12)
                self._tick(images, 12)
                full.result()

    def _tick(self, images: int, steps: int) -> None:
        """A tick has a row for each of the images, and for those of other requests."""
        body: Body = {
            "class_label": 1,
            "cfg_scale": 1.0,
            "num_images": images,
            "num_sampling_steps": steps,
        }
        visitor = Visitor(self._host, random.Random(images))
        status, content = visitor.ask("/generate", body, {"Accept": "application/json"})
        assert status == 200, content

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Let nobody come any more, and wait for those that are there."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _visit_each(self, seed: int) -> None:
        visitor = Visitor(self._host, random.Random(seed), large=True)
        for kind in KINDS:
            visit(kind, visitor, self.tally)

    def _work(self, seed: int) -> None:
        choose = random.Random(seed)
        visitor = Visitor(self._host, choose)
        weights = list(itertools.accumulate(kind.weight for kind in KINDS))
        while not self._ended.is_set():
            (kind,) = choose.choices(KINDS, cum_weights=weights)
            visit(kind, visitor, self.tally)
            self._ended.wait(choose.expovariate(1 / self._pause_s))


def sample_until(
    ends: float,
    every_s: float,
    sources: dict[str, tuple[int, Tally]],
    keep: Callable[[str, Sample], None],
    settle: Callable[[str], None],
) -> None:
    """Sample processes, each given by its id and the visits to it, until a moment of the monotonic clock.

    Args:
        settle: called before each sample, with the name of the process.

    Raises:
        OSError: a process has ended.
    """
    began = time.monotonic()
    while (now := time.monotonic()) < ends:
        for name, (pid, tally) in sources.items():
            settle(name)
            keep(name, sample(pid, now - began, tally.visits))
        time.sleep(max(0.0, min(every_s, ends - time.monotonic())))
