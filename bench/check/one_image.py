"""One image: the suite `Alone` for one model, in fewer rounds."""

from __future__ import annotations

from dataclasses import replace

from bench.options import Options
from bench.suites.alone import Alone


def one_image(options: Options) -> Alone:
    """Latency of one image of the served model, against diffusers."""
    planned = Alone.planned(options)
    return replace(planned, models=(options.served_model,), rounds=min(5, planned.rounds))
