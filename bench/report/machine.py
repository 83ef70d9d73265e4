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
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout else None


def cpu_name() -> str:
    """The processor, with its instructions for bf16."""
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    model = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    name = model.group(1) if model else platform.processor() or platform.machine()
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
    for name in PACKAGES:
        for one in metadata.distributions(name=name, path=[*sys.path, str(site)]):
            found.setdefault(name, one.version)
    return found


def commit() -> str:
    """The measured commit, with a plus if files differ from it."""
    try:
        changed = _git("status", "--porcelain", "--", "model", "service", "bench/*.py")
        return _git("rev-parse", "--short", "HEAD").strip() + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout


def has_priority() -> bool:
    """Whether this process and its children go before all others (`chrt`), which then cost them no time."""
    if not hasattr(os, "sched_getscheduler"):  # neither Windows nor macOS has it
        return False
    return os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR)
