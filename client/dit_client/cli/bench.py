"""dit bench: a small load test."""

from __future__ import annotations

from dataclasses import asdict

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
from dit_client.cli.output import print_json, progress_bar
from dit_client.load.report import LoadReport, report_of
from dit_client.load.requests import Load, run_load
from dit_client.options import Options, OutputFormat

ALL_FAILED = 5


@click.command(short_help="A small load test: p50, p95, images/s, refusals.")
@click.argument("label", metavar="[CLASS]", default="0")
@click.option("--requests", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--clients", type=click.IntRange(1, 4096), default=8, show_default=True)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="PER_SECOND",
    help="Send so many requests per second on average, whatever the answers take (open loop).",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the first request.")
@click.option(
    "--count", type=click.IntRange(min=1), default=1, show_default=True, help="Images each."
)
@sampling_options
@format_option
@json_option
@connection_options
def bench(
    label: str,
    requests: int,
    clients: int,
    rate: float | None,
    seed: int,
    count: int,
    output_format: OutputFormat | None,
    as_json: bool,
    options: Options,
    connection: Connection,
) -> int:
    """Send requests for images of CLASS (0 unless named), and print how long they took. One more comes
    first and is not measured.

    By default each of --clients sends its next request after its last answer (closed loop). Nothing is
    tried again: a 429 counts as one. Exits with 5 if no request got an image.
    """
    options = {**options, "num_images": count, "output_format": output_format}
    load = Load(class_label(label), options, requests, clients, rate, seed)
    report = anyio.run(_measure, connection, load)
    if as_json:
        print_json(asdict(report))
    else:
        _print(report)
    return 0 if report.outcomes.get("ok") else ALL_FAILED


async def _measure(connection: Connection, load: Load) -> LoadReport:
    async with connection.async_client(retries=False) as client:
        first: Options = {**load.options, "seed": load.seed}
        await client.generate(
            load.class_label, **first
        )  # not measured: it warms up, or fails clearly
        with progress_bar() as bar:
            shown = bar.add_task("bench", total=load.requests, words=f"{load.requests} requests")
            replies, seconds = await run_load(client, load, lambda _: bar.advance(shown))
    return report_of(replies, seconds)


def _print(report: LoadReport) -> None:
    rows = {
        "requests": str(report.requests),
        "seconds": f"{report.seconds:.2f}",
        "images/s": f"{report.images_per_s:.2f}",
        "p50 s": _seconds(report.p50_s),
        "p95 s": _seconds(report.p95_s),
        "p99 s": _seconds(report.p99_s),
        "longest s": _seconds(report.longest_s),
        **{f"outcome {name}": str(count) for name, count in report.outcomes.items()},
    }
    for name, value in rows.items():
        click.echo(f"{name}\t{value}")


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
