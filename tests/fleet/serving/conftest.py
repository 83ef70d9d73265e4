"""One Ray for all tests in this folder."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.fleet.serving.fleets import ray_cluster


@pytest.fixture(scope="session")
def ray_port() -> Iterator[int]:
    """The port of Serve's HTTP proxy. Ray's sockets need a short path, which pytest's are not."""
    if find_spec("ray") is None:
        pytest.skip("needs Ray Serve")
    with TemporaryDirectory(prefix="ray-") as folder, ray_cluster(Path(folder)) as port:
        yield port
