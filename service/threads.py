"""Threads: how torch's threads wait for work, and how many a CPU quota allows.

A quota (docker --cpus, Kubernetes limits, systemd's CPUQuota) leaves all of the host's processors
visible. A thread for each of them would use up the quota early in every period and then stand still.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

OPENMP = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "20000"}
"""Threads that spin until there is work starve a busy machine; threads that sleep at once double
the time of a small tick. Spinning for a fraction of a millisecond avoids both."""

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def configure_openmp() -> None:
    """Set the variables that the environment does not set, before torch is imported."""
    for name, value in OPENMP.items():
        os.environ.setdefault(name, value)


def cpu_quota(own_cgroups: Path = OWN_CGROUPS, cgroups: Path = CGROUPS) -> float | None:
    """Processors that this process may use at a time, by cgroup v2 or v1; None without a limit."""
    folders = {folder for own in _own(own_cgroups, cgroups) for folder in (own, *own.parents)}
    quotas = [_quota(folder) for folder in folders if folder.is_relative_to(cgroups)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _own(own_cgroups: Path, cgroups: Path) -> Iterator[Path]:
    """The folders of the groups that this process is in; those above them limit it too."""
    with suppress(OSError, UnicodeDecodeError):
        for line in own_cgroups.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or "cpu" in controllers.split(","):
                yield cgroups / controllers / path.lstrip("/")


def _quota(folder: Path) -> float | None:
    with suppress(OSError, ValueError):  # the root has no limit, and an unlimited quota is "max"
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        return int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii")
        period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii")
        return int(quota) / int(period) if int(quota) > 0 else None
    return None
