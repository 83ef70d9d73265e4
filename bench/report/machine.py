"""Machine: the facts of a run, without which its figures mean nothing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from bench.options import ROOT

PACKAGES = ("torch", "diffusers", "fastapi", "uvicorn", "litserve")


def gpu_name() -> str | None:
    """Name and driver of the first NVIDIA GPU, or None."""
    if shutil.which("nvidia-smi") is None:
        return None
    done = subprocess.run(
        ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
        check=False,
        capture_output=True,
        text=True,
    )
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout else None


def cpu_name() -> str:
    """The processor, with its instructions for bf16."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    model = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    name = model.group(1) if model else platform.machine()
    known = [flag for flag in ("amx_bf16", "avx512_bf16") if re.search(rf"\b{flag}\b", text)]
    return f"{name} ({', '.join(known)})" if known else name


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_average() -> float:
    """Mean number of runnable processes over the last minute."""
    return os.getloadavg()[0]


def versions(site: Path) -> dict[str, str]:
    """Of Python and the packages that decide the speed; ``site`` holds the peers' own."""
    found = {"python": platform.python_version()}
    paths = [*sys.path, str(site)]
    for name in PACKAGES:
        one = next(iter(metadata.distributions(name=name, path=paths)), None)
        if one is not None:
            found[name] = one.version
    return found


def commit() -> str:
    """The measured commit, with a plus if files differ from it."""
    try:
        head = _git("rev-parse", "--short", "HEAD").strip()
        changed = _git("status", "--porcelain", "--", "model", "service", "bench/*.py")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changed else "")


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], check=True, cwd=ROOT, capture_output=True, text=True
    ).stdout
