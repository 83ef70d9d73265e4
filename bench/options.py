"""Options: what one run of the benchmark was asked to do."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
REPORT = ROOT / "docs" / "benchmarks.md"
WORK = ROOT / "build" / "bench"
"""Random weights, logs, and the packages that only the peers need; ignored by git."""

BUNDLED, XL_256, XL_512 = "bundled", "xl-256", "xl-512"
TUNING = ("DIT_", "OMP_", "GOMP_", "KMP_", "MKL_", "TORCH", "PYTORCH_")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """``model`` replaces every suite's own choice; ``threads`` applies to every arm."""

    device: str = "cpu"
    quick: bool = False
    compiled: bool = False
    soak: bool = False
    model: str | None = None
    threads: int | None = None
    results: Path = RESULTS
    work: Path = WORK

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"

    @property
    def served_model(self) -> str:
        """The model of the suites that measure a server."""
        return self.model or self.by_device(BUNDLED, XL_256)

    @property
    def offline_models(self) -> tuple[str, ...]:
        """The models of the suites that measure without HTTP."""
        return (self.model,) if self.model else self.by_device((BUNDLED,), (XL_256, XL_512))

    @property
    def site(self) -> Path:
        """Where the peers' own packages are installed."""
        return self.work / "site"

    def pick(self, full: T, quick: T) -> T:
        return quick if self.quick else full

    def by_device(self, cpu: T, cuda: T) -> T:
        return cuda if self.on_gpu else cpu

    def log(self, name: str) -> Path:
        """The log file of a process; makes its folder."""
        path = self.work / "logs" / f"{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def environment(self) -> dict[str, str]:
        """The environment of every arm: no tuning variables and no downloads.

        Each arm then uses its libraries' own number of threads, unless ``threads`` is set.
        """
        kept = {name: value for name, value in os.environ.items() if not name.startswith(TUNING)}
        kept |= {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        if self.threads is not None:
            kept["OMP_NUM_THREADS"] = str(self.threads)
        return kept

    def peer_environment(self) -> dict[str, str]:
        """Adds the peers' own packages. They must not reach our service.

        LitServe brings uvloop and httptools, which uvicorn uses wherever it finds them.
        """
        environment = self.environment()
        paths = [str(self.site), environment.get("PYTHONPATH", "")]
        return environment | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
