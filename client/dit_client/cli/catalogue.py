"""dit classes, models, verify, health: what the service has, and whether an image is its own."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from dit_client.cli.options import Connection, connection_options, json_option
from dit_client.cli.output import print_json, printable
from dit_client.results import Verification

NO = 1
"""The exit code of a question answered with no."""

NOT_READY = 3


@click.command(short_help="Classes, or those with a part of a name.")
@click.argument("search", default="")
@json_option
@connection_options
def classes(search: str, as_json: bool, connection: Connection) -> int:
    """List the classes; with SEARCH, those with a name that contains it.

    A line has the id, the name, the synonyms and the WordNet id if it is known, separated by tabs.
    Exits with 1 if there is none.
    """
    with connection.client() as client:
        found = client.classes(search)
    if as_json:
        print_json([asdict(entry) for entry in found])
    else:
        for entry in found:
            names = entry.name, ", ".join(entry.synonyms), entry.wordnet_id or ""
            click.echo("\t".join((str(entry.id), *map(printable, names))).rstrip())
    return 0 if found else NO


@click.command(short_help="The model that is served, its limits and defaults.")
@json_option
@connection_options
def models(as_json: bool, connection: Connection) -> None:
    """Describe the model that is served."""
    with connection.client() as client:
        found = client.models()
    if as_json:
        print_json([dict(model.members) for model in found])
        return
    for model in found:
        for name, value in model.members.items():
            if isinstance(value, dict):
                for each, one in value.items():
                    click.echo(f"{name}.{each}\t{_words(one)}")
            elif name != "object":
                click.echo(f"{name}\t{_words(value)}")


@click.command(short_help="Whether images are what their metadata say.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@json_option
@connection_options
def verify(files: tuple[str, ...], as_json: bool, connection: Connection) -> int:
    """Have the service generate each FILE again from its metadata, and compare. - is standard input.

    Exits with 1 if one is not what it says.
    """
    verdicts: dict[str, Verification] = {}
    with connection.client() as client:
        for name in files:
            content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
            verdicts[name] = client.verify(content)
            if not as_json:
                click.echo(f"{name}\t{_verdict(verdicts[name])}")
    if as_json:
        print_json([{"file": name, **asdict(verdict)} for name, verdict in verdicts.items()])
    return 0 if all(verdict.verified for verdict in verdicts.values()) else NO


@click.command(short_help="Whether the service takes requests.")
@connection_options
def health(connection: Connection) -> int:
    """Print whether the service is ready. Exits with 3 if it is not."""
    with connection.client() as client:
        state = client.health(timeout_s=connection.timeout_s or 10.0)
    click.echo(state.detail)
    return 0 if state.ready else NOT_READY


def _verdict(verdict: Verification) -> str:
    if verdict.bytes_equal:
        return "verified"
    reason = f": {printable(verdict.reason)}" if verdict.reason else ""
    return ("verified" if verdict.verified else "NOT verified") + reason


def _words(value: object) -> str:
    return printable(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
