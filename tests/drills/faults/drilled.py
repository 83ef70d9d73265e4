"""Drilled: a service in which things go wrong when they are told to, and checks of what comes of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.drills.faults.promises import Promise
from tests.drills.faults.service import HANG_S
from tests.drills.services.started import Answer, Started, started
from tests.support.faulty import BAD_LABEL
from tests.support.processes import PROCESS_S
from tests.support.services import wait_until

MODULE = "tests.drills.faults.service"
Body = Mapping[str, object]
BAD: Body = {"class_label": BAD_LABEL, "seed": 1, "num_sampling_steps": 40, "num_images": 2}
OTHERS: tuple[Body, ...] = (
    {"class_label": 0, "seed": 2, "num_sampling_steps": 100, "cfg_scale": 4.0},
    {"class_label": 1, "seed": 3, "num_sampling_steps": 60, "sampler": "ddpm"},
    {"class_label": 2, "seed": 4, "num_sampling_steps": 80, "sampler": "dpmpp_2m"},
)


class Drilled:
    """A service in which things go wrong when they are told to, and what it made before they did."""

    def __init__(self, service: Started, orders: Path, folder: Path) -> None:
        self.service = service
        self.folder = folder
        self._orders = orders
        self.pictures = [service.ask("/generate", body).content for body in (BAD, *OTHERS)]

    def order(self, fault: str) -> None:
        self._orders.write_text(fault, encoding="utf-8")

    def together(self) -> tuple[Future[Answer], list[Future[Answer]]]:
        """Send the request at fault once the others are in."""
        pool = ThreadPoolExecutor(1 + len(OTHERS))
        others = [pool.submit(self.service.ask, "/generate", body) for body in OTHERS]
        wait_until(lambda: self.service.metric("dit_requests_running") > 0)
        bad = pool.submit(self.service.ask, "/generate", BAD)
        pool.shutdown(wait=False)
        return bad, others

    def check_it_is_well(self) -> None:
        """Ready, idle, and making the same pictures as before."""
        wait_until(lambda: self.service.ready and self.service.idle)
        bodies = (BAD, *OTHERS)
        again = [_content(self.service.ask("/generate", body)) for body in bodies]
        assert again == [_without_times(each) for each in self.pictures]


def _content(answer: Answer) -> bytes:
    assert answer.status == 200, answer.content
    return _without_times(answer.content)


def _without_times(content: bytes) -> bytes:
    """JSON answers say how long they took."""
    return content.partition(b'"timings"')[0]


@contextmanager
def drilled(
    source: Path, folder: Path, log: Path | None = None, **environment: str
) -> Iterator[Drilled]:
    model, orders = folder / "model", folder / "orders"
    if not model.exists():
        shutil.copytree(source, model)
    orders.write_text("", encoding="utf-8")
    log = log or folder / "log"
    settings = {"DIT_REPRODUCIBLE": "1", **environment}
    with started(MODULE, str(model), str(orders), log=log, settings=settings) as service:
        yield Drilled(service, orders, model)


def check_promise(drilled: Drilled, promise: Promise) -> str:
    """Let a fault happen next to other requests; what was seen."""
    service = drilled.service
    before, lines = service.metric(promise.metric), len(service.lines())
    drilled.order(promise.fault)
    bad, others = drilled.together()
    if promise.fault == "hangs for a while":
        check_it_says_that_it_is_stuck(service)
    statuses = {each.result().status for each in others}
    assert bad.result().status == promise.status, bad.result().content
    assert statuses <= promise.others
    seen = f"{bad.result().status}, others {' and '.join(map(str, sorted(statuses)))}"
    if promise.exit_code is not None:
        assert service.process.wait(PROCESS_S) == promise.exit_code
    elif promise.metric:
        assert service.metric(promise.metric) > before
    check_line(service, promise.line, lines)
    return seen


def check_line(service: Started, line: tuple[str, str], after: int) -> None:
    beginning, inside = line
    events = service.texts()[after:]
    assert not beginning or [
        each for each in events if each.startswith(beginning) and inside in each
    ], events


def check_it_says_that_it_is_stuck(service: Started) -> None:
    wait_until(lambda: not service.ready, HANG_S)
    assert service.ask("/readyz").detail == "the service is stuck"
    assert service.metric('dit_state{state="stuck"}') == 1
    assert service.metric("dit_ready") == 0
    hasty = service.ask("/generate", {"class_label": 0, "timeout_s": 0.2})
    assert hasty.status == 504


def change_the_weights(folder: Path) -> None:
    """In place, as a copy over them does: other bytes, then fewer, then none."""
    for path in folder.rglob("*.safetensors"):
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.write(b"\xff" * size)
            file.truncate(size // 2)
        path.unlink()
