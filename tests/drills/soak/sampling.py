"""Sampling: what a process takes, as Linux counts it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.drills.soak.judge import Trend, trend


@dataclass(frozen=True, slots=True)
class Sample:
    """A process at one moment. ``anonymous_kib`` is its resident memory without files' pages."""

    seconds: float
    requests: int
    anonymous_kib: int
    resident_kib: int
    threads: int
    descriptors: int


def sample(pid: int, seconds: float, requests: int) -> Sample:
    """Read /proc.

    Args:
        seconds: since the beginning.
        requests: answered since then.

    Raises:
        OSError: the process has ended.
    """
    folder = Path(f"/proc/{pid}")
    status = (folder / "status").read_text(encoding="utf-8")
    return Sample(
        seconds=round(seconds, 3),
        requests=requests,
        anonymous_kib=_field(status, "RssAnon"),
        resident_kib=_field(status, "VmRSS"),
        threads=_field(status, "Threads"),
        descriptors=len(list((folder / "fd").iterdir())),
    )


def _field(status: str, name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+)", status, re.MULTILINE)
    if found is None:
        raise ProcessLookupError(f"no {name}: the process is ending")
    return int(found[1])


def per_thousand(
    samples: Sequence[Sample], value: Callable[[Sample], float], *, nearby: int = 0
) -> Trend:
    """How a value changes in a thousand requests.

    Args:
        nearby: the least of so many samples before and after each counts: what requests in flight take
            comes and goes, what is kept stays.

    Raises:
        ValueError: as `trend`.
    """
    values = [value(each) for each in samples]
    least = [min(values[max(0, i - nearby) : i + nearby + 1]) for i in range(len(values))]
    return trend([each.requests / 1000 for each in samples], least)
