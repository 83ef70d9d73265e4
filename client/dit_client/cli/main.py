"""Main: the group of commands, and the exit code of every error.

0  done
1  no: an image is not verified, no class is found, a data set has failed pictures
2  the command line or the request is wrong, or a file is in the way
3  the service cannot be reached, is not ready, or is full
4  the time is over
5  the service failed, or what answers is not the service
6  a file cannot be read or written
130  interrupted
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from dit_client.cli.bench import bench
from dit_client.cli.catalogue import classes, health, models, verify
from dit_client.cli.dataset import dataset
from dit_client.cli.generate import generate
from dit_client.cli.output import say
from dit_client.cli.sheet import sheet
from dit_client.dataset.files import Locked
from dit_client.dataset.record import DatasetError
from dit_client.errors import DeadlineExceeded, DitError, NoAnswer, Overloaded, Refused
from dit_client.version import __version__

EXIT_CODES: Sequence[tuple[type[Exception], int]] = (
    (DeadlineExceeded, 4),
    (NoAnswer, 3),
    (Overloaded, 3),
    (Refused, 2),
    (DitError, 5),
    (DatasetError, 2),
    (Locked, 2),
    (OSError, 6),
    (ValueError, 2),
)
"""The first kind that fits."""

INTERRUPTED, BROKEN_PIPE = 130, 141


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="dit")
def dit() -> None:
    """Images from a DiT service.

    Every command takes --url (or DIT_URL) and --api-key (or DIT_API_KEY).
    """


for command in (generate, classes, models, verify, health, sheet, dataset, bench):
    dit.add_command(command)


def main() -> NoReturn:
    """The program."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command line; the exit code. An error is one line on standard error."""
    try:
        code = dit.main(list(arguments), prog_name="dit", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "dit"
        say(f"{error.format_message()} See: {where} --help")
        return 2
    except click.ClickException as error:
        say(error.format_message())
        return 2
    except (click.Abort, KeyboardInterrupt):
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # of `dit classes | head`; nothing more can be flushed at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except tuple(kind for kind, _ in EXIT_CODES) as error:
        say(str(error) or type(error).__name__)
        return exit_code(error)
    return code if isinstance(code, int) else 0


def exit_code(error: Exception) -> int:
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))
