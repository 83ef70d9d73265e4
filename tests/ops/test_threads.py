"""The CPU quota, read from trees of files like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.threads import cpu_quota

V1_GROUPS = "9:name=systemd:/\n4:memory:/x\n2:cpu,cpuacct:/docker/abc\n"


def quota_of(root: Path, own_groups: str, files: dict[str, str]) -> float | None:
    """The quota of a process in these groups; ``files`` are contents by path below /sys/fs/cgroup."""
    groups, own = root / "cgroup", root / "own"
    own.write_text(own_groups)
    for name, content in files.items():
        path = groups / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return cpu_quota(own, groups)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({}, None),
        ({"pods/one/cpu.max": "400000 100000\n"}, 4.0),
        ({"pods/one/cpu.max": "max 100000\n", "pods/cpu.max": "50000 100000\n"}, 0.5),
        ({"pods/one/cpu.max": "400000 100000\n", "pods/cpu.max": "200000 100000\n"}, 2.0),
        ({"pods/two/cpu.max": "50000 100000\n"}, None),
        ({"cpu.max": "what?\n"}, None),
    ],
)
def test_version_2_the_tightest_limit_of_the_group_and_those_above_it(
    files: dict[str, str], quota: float | None, tmp_path: Path
) -> None:
    assert quota_of(tmp_path, "0::/pods/one\n", files) == quota


@pytest.mark.parametrize("group", ["docker/abc/", ""])
def test_version_1_in_the_host_s_tree_and_in_a_container_s(group: str, tmp_path: Path) -> None:
    files = {
        f"cpu,cpuacct/{group}cpu.cfs_quota_us": "250000\n",
        f"cpu,cpuacct/{group}cpu.cfs_period_us": "100000\n",
    }
    assert quota_of(tmp_path, V1_GROUPS, files) == 2.5


def test_version_1_without_a_limit(tmp_path: Path) -> None:
    files = {
        "cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }
    assert quota_of(tmp_path, V1_GROUPS, files) is None


def test_without_groups_there_is_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "own", tmp_path / "cgroup") is None
