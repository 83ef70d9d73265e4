"""Output: results on standard output, everything else on standard error, one line each."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from dit_client.retries import Retry


def say(text: str) -> None:
    """A message to the user."""
    click.echo(f"dit: {printable(text)}", err=True)


def printable(text: str) -> str:
    """One line without control characters: what a service sends may hold anything."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def say_retry(retry: Retry) -> None:
    say(f"{retry.error}; trying again in {retry.wait_s:.0f} s")


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def watched() -> bool:
    """Whether a person sees standard error."""
    return sys.stderr.isatty()


def progress_bar() -> Progress:
    """A bar on standard error, gone when it is finished; of each task, `fields[words]` is behind it."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[words]}", markup=False),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
        disable=not watched(),
        transient=True,
    )


def check_free(path: Path, *, force: bool) -> None:
    """
    Raises:
        click.ClickException: the file is there, and may not be replaced.
    """
    if path.is_dir():
        raise click.ClickException(f"{path} is a folder")
    if path.exists() and not force:
        raise click.ClickException(f"{path} exists; --force replaces it")


def write_file(path: Path, content: bytes, *, force: bool) -> None:
    """Write a result. Without ``force`` one that has come in the meantime is kept.

    Raises:
        click.ClickException: the file is there, and may not be replaced.
    """
    check_free(path, force=force)
    try:
        with path.open("wb" if force else "xb") as file:
            file.write(content)
    except FileExistsError:
        raise click.ClickException(f"{path} exists; --force replaces it") from None


def write_stdout(content: bytes) -> None:
    """
    Raises:
        click.ClickException: standard output is a terminal.
    """
    if sys.stdout.isatty():
        raise click.ClickException("an image is not for the terminal: redirect standard output")
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
