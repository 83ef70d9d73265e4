"""Stop: `python -m service.fleet.deployments.stop` ends a fleet without losing what is under way.

`serve shutdown` alone drops it.
"""

from __future__ import annotations

import argparse
import sys

import ray
from ray import serve

APPLICATION = "dit"
TIMEOUT_S = 310.0
MARGIN_S = 10.0


def drain(application: str, timeout_s: float) -> int:
    """Have every front take nothing more in and finish; returns how many requests are unfinished."""
    fronts = serve.get_app_handle(application).broadcast("close", timeout_s)
    return sum(fronts.results(timeout_s=timeout_s + MARGIN_S))


def main(arguments: list[str]) -> int:
    """Returns the exit code: 1 if requests were cut off."""
    parser = argparse.ArgumentParser(prog="python -m service.fleet.deployments.stop")
    parser.add_argument("--address", default="auto", help="of the Ray cluster")
    parser.add_argument("--application", default=APPLICATION, help="its name in the configuration")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, help="seconds to wait at most")
    given = parser.parse_args(arguments)
    ray.init(given.address, namespace="serve", logging_level="error")
    unfinished = drain(given.application, given.timeout)
    serve.shutdown()
    print(f"stopped; {unfinished} requests were cut off" if unfinished else "stopped")
    return 1 if unfinished else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
