"""dit generate: images of a class into files."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

import click

from dit_client.cli.options import (
    Connection,
    class_label,
    connection_options,
    force_option,
    format_of,
    format_option,
    json_option,
    sampling_options,
)
from dit_client.cli.output import (
    check_free,
    print_json,
    progress_bar,
    watched,
    write_file,
    write_stdout,
)
from dit_client.client import Client
from dit_client.errors import AnswerCut
from dit_client.events import Done
from dit_client.events import Progress as StepsDone
from dit_client.options import Options, OutputFormat
from dit_client.results import Generation, Image

STDOUT = "-"


@click.command(short_help="Images of a class into files.")
@click.argument("label", metavar="CLASS")
@click.option("-o", "--output", metavar="FILE", help="A file, a folder, or - for standard output.")
@click.option("--seed", type=int, help="The same seed gives the same image. Default: random.")
@click.option("--count", type=click.IntRange(min=1), default=1, show_default=True)
@sampling_options
@format_option
@force_option
@json_option
@connection_options
def generate(
    label: str,
    output: str | None,
    seed: int | None,
    count: int,
    output_format: OutputFormat | None,
    force: bool,
    as_json: bool,
    options: Options,
    connection: Connection,
) -> None:
    """Generate images of CLASS: a name, a synonym or an id.

    Prints the names of the files. Without -o they are called after the class and the seed. Several
    images in one FILE get a number each: out-0.png, out-1.png.
    """
    named = _named_file(output)
    if output == STDOUT and (count > 1 or as_json):
        raise click.UsageError("-o - takes one image, and no --json")
    chosen = format_of(named, output_format) if named else output_format
    if named:
        for path in _numbered(named, count):
            check_free(path, force=force)
    options = {**options, "seed": seed, "num_images": count, "output_format": chosen}
    with connection.client() as client:
        generation = _generated(client, label, options)
    if output == STDOUT:
        write_stdout(generation.image.data)
        return
    paths = _numbered(named, count) if named else _called_after(generation, output)
    for path, image in zip(paths, generation.images):
        write_file(path, image.data, force=force)
    if as_json:
        print_json(_described(generation, paths))
    else:
        click.echo("\n".join(map(str, paths)))


def _generated(client: Client, label: str, options: Options) -> Generation:
    """The images; with a bar of the steps where somebody watches."""
    if not watched():
        return client.generate(class_label(label), **options)
    with progress_bar() as bar:
        shown = bar.add_task(label, total=None, words="")
        with client.stream(class_label(label), **options) as events:
            for event in events:
                if isinstance(event, StepsDone):
                    bar.update(
                        shown, completed=event.step, total=event.steps, words=_progress(event)
                    )
                elif isinstance(event, Done):
                    return event.generation
    raise AnswerCut("the stream ended before the images were finished")


def _progress(event: StepsDone) -> str:
    if event.ahead_in_queue and not event.step:
        return f"waiting for {event.ahead_in_queue} others"
    return f"{event.step}/{event.steps} steps"


def _named_file(output: str | None) -> Path | None:
    """The file that -o names, if it is not a folder or standard output."""
    if output in (None, STDOUT) or output.endswith("/") or Path(output).is_dir():
        return None
    return Path(output)


def _numbered(path: Path, count: int) -> list[Path]:
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(count)]


def _called_after(generation: Generation, folder: str | None) -> list[Path]:
    """Names in a folder, which is made if it is not there."""
    where = Path(folder or ".")
    where.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W+", "_", generation.parameters.class_name)[:60].strip("_").lower()
    stem = name or str(generation.parameters.class_label)
    return [where / f"{stem}-{image.seed}.{image.suffix}" for image in generation.images]


def _described(generation: Generation, paths: list[Path]) -> dict[str, object]:
    def image(path: Path, one: Image) -> dict[str, object]:
        about = {"index": one.index, "seed": one.seed, "content_type": one.content_type}
        return {"file": str(path), **about}

    return {
        "images": [image(path, one) for path, one in zip(paths, generation.images)],
        "parameters": dict(generation.parameters.members),
        "timings": asdict(generation.timings),
        "model": generation.model,
        "etag": generation.etag,
        "request_id": generation.request_id,
    }
