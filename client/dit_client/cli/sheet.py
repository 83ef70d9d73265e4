"""dit sheet: a contact sheet."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import anyio
import click

from dit_client.async_client import AsyncClient
from dit_client.cli.options import (
    Connection,
    class_label,
    connection_options,
    force_option,
    sampling_options,
)
from dit_client.cli.output import check_free, progress_bar, write_file
from dit_client.options import Options
from dit_client.results import ClassEntry
from dit_client.sheet import Axis, Grid, Value, draw_sheet, grid_of, png_of

IN_FLIGHT = 16
MOST_IMAGES = 4096


@click.command(short_help="A contact sheet of one or two varied parameters.")
@click.argument("labels", nargs=-1, metavar="[CLASS...]")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default="sheet.png", show_default=True
)
@click.option("--seeds", default="1", show_default=True, help="A list, or a range: 1,2,7 or 1..8.")
@click.option("--cfg-scales", help="A list of guidance scales.")
@click.option("--step-counts", help="A list, or a range.")
@click.option("--samplers", help="A list.")
@click.option("--qualities", help="A list of presets.")
@sampling_options
@force_option
@connection_options
def sheet(
    labels: tuple[str, ...],
    output: Path,
    seeds: str,
    cfg_scales: str | None,
    step_counts: str | None,
    samplers: str | None,
    qualities: str | None,
    force: bool,
    options: Options,
    connection: Connection,
) -> None:
    """Draw images of every CLASS (all, if none is named), labelled, as one PNG.

    One or two parameters can have several values: classes, --seeds, --cfg-scales, --step-counts,
    --samplers or --qualities. The first that has is a row each, the second a column each.
    """
    check_free(output, force=force)
    wanted = {
        "cfg_scale": _numbers(cfg_scales, float, "--cfg-scales"),
        "num_sampling_steps": _numbers(step_counts, int, "--step-counts"),
        "sampler": _words(samplers),
        "quality": _words(qualities),
        "seed": _numbers(seeds, int, "--seeds"),
    }
    files = anyio.run(_draw, connection, labels, wanted, options)
    write_file(output, files, force=force)
    click.echo(str(output))


async def _draw(
    connection: Connection,
    labels: tuple[str, ...],
    wanted: dict[str, tuple[Value, ...]],
    options: Options,
) -> bytes:
    async with connection.async_client() as client:
        classes = tuple(map(class_label, labels)) or all_labels(await client.classes())
        axes = [Axis("class_label", classes), *(Axis(*each) for each in wanted.items() if each[1])]
        grid = grid_of(axes)
        if len(grid.cells) > MOST_IMAGES:
            raise click.UsageError(f"{len(grid.cells)} images are more than {MOST_IMAGES}")
        fixed = {axis.field: axis.values[0] for axis in axes if len(axis.values) == 1}
        files = await _files(client, grid, {**options, **fixed})
    return await anyio.to_thread.run_sync(lambda: png_of(draw_sheet(grid, files)))


def all_labels(classes: Sequence[ClassEntry]) -> tuple[Value, ...]:
    """Every class by its name, or by its id where another class has the same name."""
    names = Counter(entry.name.casefold() for entry in classes)
    return tuple(e.name if names[e.name.casefold()] == 1 else e.id for e in classes)


async def _files(client: AsyncClient, grid: Grid, fixed: dict[str, object]) -> list[bytes]:
    """The image of every cell. The first error ends the others."""
    cells = grid.cells
    files: list[bytes] = [b""] * len(cells)
    room = anyio.CapacityLimiter(IN_FLIGHT)
    with progress_bar() as bar:
        shown = bar.add_task("sheet", total=len(cells), words=f"{len(cells)} images")

        async def fill(number: int) -> None:
            async with room:
                fields = {**fixed, **cells[number]}
                label = cast("int | str", fields.pop("class_label"))
                generation = await client.generate(label, **cast(Options, fields))
                files[number] = generation.image.data
                bar.advance(shown)

        tasks = [asyncio.ensure_future(fill(number)) for number in range(len(cells))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return files


def _words(text: str | None) -> tuple[Value, ...]:
    return tuple(each.strip() for each in text.split(",")) if text else ()


def _numbers(text: str | None, kind: type[int | float], option: str) -> tuple[Value, ...]:
    """The numbers of a list with commas; of integers also ranges, both ends included."""
    found: list[Value] = []
    for each in _words(text):
        span = re.fullmatch(r"(\d{1,19})\.\.(\d{1,19})", str(each)) if kind is int else None
        try:
            if span is None:
                found.append(kind(each))
            elif int(span[2]) - int(span[1]) < MOST_IMAGES:
                found.extend(range(int(span[1]), int(span[2]) + 1))
            else:
                raise click.BadParameter(f"{each} is too long a range", param_hint=option)
        except ValueError:
            raise click.BadParameter(f"{each!r} is not a number", param_hint=option) from None
    return tuple(dict.fromkeys(found))
