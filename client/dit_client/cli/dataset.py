"""dit dataset: a synthetic data set into a folder."""

from __future__ import annotations

import time
from pathlib import Path

import anyio
import click

from dit_client.cli.options import (
    Connection,
    class_label,
    connection_options,
    format_option,
    json_option,
    sampling_options,
)
from dit_client.cli.output import print_json, progress_bar, say, watched
from dit_client.dataset.make import Listeners, Wish, make_dataset
from dit_client.dataset.record import Layout
from dit_client.dataset.run import Status
from dit_client.options import Options, OutputFormat

FAILED = 1
REPORT_S = 30.0
"""Between lines of progress where nobody watches."""


@click.command(short_help="Many images of many classes into a folder; resumes.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="FOLDER"
)
@click.option(
    "--per-class", type=click.IntRange(min=1), required=True, help="Images of each class."
)
@click.option("--class", "labels", multiple=True, metavar="CLASS", help="Repeatable. Default: all.")
@click.option(
    "--classes-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A file with a class in each line.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Decides all the seeds.")
@click.option("--webdataset", is_flag=True, help="Tar shards instead of folders.")
@click.option(
    "--npz", is_flag=True, help="One samples.npz instead of folders, for ADM's evaluation."
)
@click.option("--shard-size", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option("--csv", is_flag=True, help="Also write the manifest as CSV.")
@click.option("--max-in-flight", type=click.IntRange(1, 4096), default=256, show_default=True)
@click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a service that is gone.",
)
@sampling_options
@format_option
@json_option
@connection_options
def dataset(
    out: Path,
    per_class: int,
    labels: tuple[str, ...],
    classes_file: Path | None,
    seed: int,
    webdataset: bool,
    npz: bool,
    shard_size: int,
    csv: bool,
    max_in_flight: int,
    patience: float,
    output_format: OutputFormat | None,
    as_json: bool,
    options: Options,
    connection: Connection,
) -> int:
    """Generate --per-class images of every class, with as many requests in flight as pay off.

    A run that was stopped goes on with the same command line: nothing is made twice. In FOLDER,
    manifest.jsonl has a line for every image: file, class, seed, parameters, SHA-256.
    """
    if webdataset and npz:
        raise click.UsageError("--webdataset and --npz exclude each other")
    layout: Layout = "webdataset" if webdataset else "npz" if npz else "folders"
    chosen = [*labels, *(_lines(classes_file) if classes_file else ())]
    options["output_format"] = output_format
    wish = Wish(
        folder=out,
        per_class=per_class,
        base_seed=seed,
        classes=tuple(map(class_label, chosen)),
        options=options,
        layout=layout,
        shard_size=shard_size,
        csv=csv,
    )
    status = anyio.run(_make, connection, wish, max_in_flight, patience)
    for task, error in status.failed[:10]:
        say(f"{task.entry.name}, picture {task.index}: {error}")
    if as_json:
        print_json(_summary(status, out))
    else:
        click.echo(f"{status.done} of {status.total} images in {out}, {status.made} of them new")
    return FAILED if status.failed else 0


async def _make(connection: Connection, wish: Wish, max_in_flight: int, patience: float) -> Status:
    async with connection.async_client(retries=False) as client:
        with progress_bar() as bar:
            shown = bar.add_task("images", total=None, words="")
            report = Report()

            def show(status: Status) -> None:
                bar.update(
                    shown,
                    total=status.total,
                    completed=status.done,
                    description=status.waiting_for[:60] or "images",
                    words=report.words(status),
                )
                report.tell(status)

            def packed(count: int) -> None:
                bar.update(shown, completed=count, description="packing", words="")

            return await make_dataset(
                client,
                wish,
                max_in_flight=max_in_flight,
                timeout_s=connection.timeout_s,
                patience_s=patience,
                listeners=Listeners(show, packed),
            )


class Report:
    """What the run says: behind the bar, or as a line now and then where nobody watches."""

    def __init__(self) -> None:
        self._began = self._told = time.monotonic()
        self._lost = ""

    def words(self, status: Status) -> str:
        rate = status.made / max(time.monotonic() - self._began, 1e-9)
        return f"{status.done}/{status.total}, {rate:.1f} images/s, {status.in_flight} in flight"

    def tell(self, status: Status) -> None:
        if status.waiting_for != self._lost:
            self._lost = status.waiting_for
            say(f"waiting: {self._lost}" if self._lost else "the service is back")
        now = time.monotonic()
        if not watched() and now - self._told >= REPORT_S:
            self._told = now
            say(self.words(status))


def _lines(path: Path) -> list[str]:
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def _summary(status: Status, folder: Path) -> dict[str, object]:
    return {
        "folder": str(folder),
        "total": status.total,
        "done": status.done,
        "made": status.made,
        "refusals": status.refusals,
        "outages": status.outages,
        "failed": len(status.failed),
    }
