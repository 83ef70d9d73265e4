"""Options of the command that fits a solver."""

from __future__ import annotations

import argparse
from pathlib import Path

from model.train.options import (
    add_count_option,
    add_model_options,
    add_threads_option,
    command_parser,
)
from model.weights.fitted_solvers import FILE_NAME


def options_parser(description: str | None) -> argparse.ArgumentParser:
    parser = command_parser("model.train.solver", description)
    add_model_options(parser)
    add_count_option(parser, "--steps", default=6, help="steps of the solver")
    parser.add_argument(
        "--cfg-scale", type=float, help="guidance to fit at (default: what the model recommends)"
    )
    parser.add_argument(
        "--cfg-range",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="guidance to offer it for, checked at both ends (default: 0.25 below to 0.5 above)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help=f"file to add the table to (default: the model's scheduler/{FILE_NAME})",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("runs/solver"),
        metavar="FOLDER",
        help="where an interrupted fit continues from (default %(default)s)",
    )
    add_count_option(parser, "--iterations", default=45, help="iterations of 16 noises")
    add_count_option(parser, "--noises", default=216, help="noises to fit to")
    add_count_option(parser, "--held-out", default=71, help="noises to judge by")
    add_count_option(parser, "--seed", default=0, help="seed of all random numbers")
    add_threads_option(parser)
    return parser
