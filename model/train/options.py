"""Options: the command line that every training shares."""

from __future__ import annotations

import argparse
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator, InitProcessGroupKwargs

LONGEST_WAIT = timedelta(hours=6)
"""How long processes wait for the first of them, which encodes all photographs."""


def command_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser whose help keeps the description's lines."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )


def data_options(parser: argparse.ArgumentParser) -> None:
    """What is trained on, and on which device."""
    parser.add_argument("--data", type=Path, required=True, help="folder of class folders")
    parser.add_argument("--image-size", type=int, default=64, help="pixels: default 64")
    leave_out_option(parser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cpu", action="store_true", help="train on the CPU beside a GPU")
    parser.add_argument("--threads", type=int, help="CPU threads: torch's own choice by default")


def leave_out_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--leave-out",
        action="append",
        default=[],
        metavar="PATTERN",
        help="pictures below --data not to be read, as 'Plum/r_*'; may be given again",
    )


def training_parser(
    description: str | None, *, steps: int, batch_size: int, learning_rate: float
) -> argparse.ArgumentParser:
    """A parser with these defaults; the caller may add options of its own."""
    parser = command_parser(description)
    data_options(parser)
    parser.add_argument("--out", type=Path, required=True, help="the run's folder; resumes there")
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--batch-size", type=int, default=batch_size, help="of all processes")
    parser.add_argument("--learning-rate", type=float, default=learning_rate)
    return parser


def accelerator_of(options: argparse.Namespace) -> Accelerator:
    """The devices and processes that the options and ``accelerate launch`` name."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    patience = InitProcessGroupKwargs(timeout=LONGEST_WAIT)
    return Accelerator(cpu=options.cpu, kwargs_handlers=[patience])
