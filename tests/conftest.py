"""Fixtures shared by several test modules."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import torch

from tests.support.checkpoints import write_pipeline
from tests.support.services import Running, load_small_runner, running_service


def pytest_configure() -> None:
    let_processes_be_stopped()
    torch.set_num_threads(1)  # more threads do not speed up the small models
    structlog.configure(  # as in a service, and never on the terminal that a test reads
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.render_to_log_kwargs,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def let_processes_be_stopped() -> None:
    """`nohup` and background jobs ignore these signals, and what a test starts would, too; a handler of
    this process is not handed down."""
    for each in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(each) is signal.SIG_IGN:
            signal.signal(each, lambda *_: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu") is not None:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DiTPipeline folder of a small random model with five classes, 8 x 8 pixels."""
    return write_pipeline(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture(scope="session")
def service(pipeline_folder: Path) -> Iterator[Running]:
    """A running service with that model, for tests that do not change its state."""
    with running_service(lambda: load_small_runner(pipeline_folder)) as running:
        yield running
