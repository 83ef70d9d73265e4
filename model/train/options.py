"""Command-line options that the training commands share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator, InitProcessGroupKwargs

LONGEST_WAIT = timedelta(hours=6)
"""How long the other processes wait while the first one encodes all photographs."""


def command_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """A parser for ``python -m module`` whose help keeps the description's line breaks."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_count_option(
    parser: argparse.ArgumentParser, name: str, *, default: int, help: str
) -> None:
    """A whole number, whose default is added to the help text."""
    parser.add_argument(
        name, type=int, default=default, metavar="N", help=f"{help} (default %(default)s)"
    )


def add_photograph_options(parser: argparse.ArgumentParser) -> None:
    """The photographs to read, and their size."""
    add_data_option(parser)
    parser.add_argument(
        "--image-size",
        type=int,
        default=64,
        metavar="PIXELS",
        help="side in pixels to which pictures are resized (default %(default)s)",
    )
    add_leave_out_option(parser)


def add_data_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder with one sub-folder of pictures per class",
    )


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """What all trainings have in common: photographs, seed and device."""
    add_photograph_options(parser)
    add_count_option(parser, "--seed", default=0, help="seed of all random numbers")
    parser.add_argument(
        "--cpu", action="store_true", help="train on the CPU even if there is a GPU"
    )
    add_threads_option(parser)


def add_leave_out_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--leave-out",
        action="append",
        default=[],
        metavar="PATTERN",
        help="skip pictures whose path below --data matches, e.g. 'Plum/r_*'; may be repeated",
    )


def add_figures_option(parser: argparse.ArgumentParser) -> None:
    """What commands read that go on with an evaluation's figures."""
    parser.add_argument(
        "figures",
        nargs="+",
        type=Path,
        metavar="FIGURES.json",
        help="files written by model.train.evaluation for the same model and classifier",
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The model, and where and in what it computes, named as in the service's settings."""
    parser.add_argument(
        "--model", default="bundled", help="the model, named as in DIT_MODEL (default %(default)s)"
    )
    parser.add_argument("--device", default="auto", help="as DIT_DEVICE (default %(default)s)")
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="as DIT_DTYPE (default %(default)s)",
    )


def add_threads_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threads", type=int, metavar="N", help="CPU threads (default: torch's choice)"
    )


def training_parser(
    module: str, description: str | None, *, steps: int, batch_size: int, learning_rate: float
) -> argparse.ArgumentParser:
    """A parser of the options of one training, with these defaults."""
    parser = command_parser(module, description)
    add_training_options(parser)
    add_run_option(parser)
    add_count_option(parser, "--steps", default=steps, help="training steps")
    add_batch_size_option(parser, batch_size)
    parser.add_argument(
        "--learning-rate",
        type=float,
        default=learning_rate,
        metavar="RATE",
        help="peak learning rate (default %(default)s)",
    )
    return parser


def add_run_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="the run's folder; an interrupted run continues from the state saved there",
    )


def add_vae_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--vae",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder of a trained AutoencoderKL",
    )


def add_licence_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--licence",
        default="unknown",
        help="licence of the weights, as spelled on the hub (default %(default)s)",
    )


def add_batch_size_option(parser: argparse.ArgumentParser, default: int) -> None:
    add_count_option(parser, "--batch-size", default=default, help="batch size over all processes")


@contextmanager
def named_errors(action: str = "train") -> Iterator[None]:
    """End the process with one line if the options, the photographs or a file do not allow the action."""
    try:
        yield
    except (OSError, ValueError) as error:
        sys.exit(f"cannot {action}: {error}")


def set_threads(options: argparse.Namespace) -> None:
    if options.threads is not None:
        torch.set_num_threads(options.threads)


def accelerator_from(options: argparse.Namespace) -> Accelerator:
    """The devices and processes chosen by the options and by ``accelerate launch``."""
    set_threads(options)
    process_group = InitProcessGroupKwargs(timeout=LONGEST_WAIT)
    return Accelerator(cpu=options.cpu, kwargs_handlers=[process_group])
