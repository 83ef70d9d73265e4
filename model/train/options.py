"""Options: the command line that every training shares."""

from __future__ import annotations

import argparse
from pathlib import Path


def training_parser(
    description: str | None, *, steps: int, batch_size: int, learning_rate: float
) -> argparse.ArgumentParser:
    """A parser with these defaults; the caller may add options of its own."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of class folders")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder; resumes there")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--batch-size", type=int, default=batch_size)
    parser.add_argument("--learning-rate", type=float, default=learning_rate)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser
