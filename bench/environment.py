"""Environment: what each arm's process finds set, so that no arm inherits another's tuning."""

from __future__ import annotations

import os

from bench.options import Options

TUNING = ("DIT_", "OMP_", "GOMP_", "KMP_", "MKL_", "TORCH", "PYTORCH_")


def bare_environment(options: Options) -> dict[str, str]:
    """Ours but for every variable that tunes threads, torch or the service; nothing is fetched.

    Each arm so gets its libraries' own choice of threads, unless all are given the same number.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(TUNING)}
    kept |= {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    if options.threads is not None:
        kept["OMP_NUM_THREADS"] = str(options.threads)
    return kept


def peer_environment(options: Options) -> dict[str, str]:
    """The same, with the packages that only peers use: they would change our service too.

    LitServe brings uvloop and httptools, which uvicorn takes wherever it finds them.
    """
    environment = bare_environment(options)
    paths = [str(options.work / "site"), environment.get("PYTHONPATH", "")]
    return environment | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
