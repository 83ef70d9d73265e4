"""Store: the pictures of a data set on the disk, and which of them are there."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from PIL import Image as Pictures

from dit_client.dataset import manifest as manifests
from dit_client.dataset.files import TEMPORARY, write_atomically
from dit_client.dataset.manifest import Line, Manifest, open_manifest, read_manifest
from dit_client.dataset.plan import Plan, Task, folder_name
from dit_client.dataset.record import DatasetError, Record
from dit_client.results import Generation

SPOOL = ".pictures"
"""Where pictures wait to be packed."""

NPZ = "samples.npz"
SUFFIXES = {"png": "png", "webp": "webp", "jpeg": "jpg"}


class Store:
    """A data set's folder, open for writing; ``done`` has a 1 for every picture that is there.

    Opening it repairs what a killed run left: a torn line of the manifest, half-written files, lines
    whose picture is gone.

    Raises:
        DatasetError: the manifest is broken, or of another data set.
    """

    def __init__(self, folder: Path, plan: Plan, record: Record) -> None:
        self.folder = folder
        self.plan = plan
        self.record = record
        suffix = record.options.get("output_format") or "png"
        self._suffix = SUFFIXES[str(suffix)]
        self._places = plan.numbers()
        self.done = bytearray(len(plan))
        self.parameters: dict[str, object] | None = None
        """Of all pictures: what their requests had in common."""

        self._load()
        self._manifest: Manifest = open_manifest(folder)

    @property
    def missing(self) -> int:
        return self.done.count(0)

    def tasks(self) -> Iterator[Task]:
        """The pictures that are not there."""
        return (self.plan.task(number) for number, done in enumerate(self.done) if not done)

    def path_of(self, task: Task) -> Path:
        """The picture's file, until it is packed."""
        spool = Path() if self.record.layout == "folders" else Path(SPOOL)
        name = f"{task.index:06}.{self._suffix}"
        return self.folder / spool / folder_name(task.entry) / name

    def shard_of(self, task: Task) -> Path:
        """The tar file that the picture is packed into."""
        assert self.record.shard_size is not None, "this is a bug: only shards have a size"
        return self.folder / f"shard-{task.number // self.record.shard_size:06}.tar"

    def add(self, task: Task, generation: Generation) -> None:
        """Write a picture, then its line.

        Raises:
            DatasetError: it was made with other parameters or by another model than the others.
        """
        image = generation.image
        common = _common(generation)
        if self.parameters is None:
            self.parameters = common
        if common != self.parameters:
            raise DatasetError(_difference(self.parameters, common))
        _check_digest(image.data, image.content_type, self.record.model_digest)
        path = self.path_of(task)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, image.data)
        self._manifest.append(self._line(task, generation))
        self.done[task.number] = 1

    def close(self) -> None:
        self._manifest.close()

    def _line(self, task: Task, generation: Generation) -> Line:
        return {
            **self._address(task),
            "class_label": task.entry.id,
            "class_name": task.entry.name,
            "index": task.index,
            "seed": task.seed,
            "parameters": self.parameters,
            "sha256": hashlib.sha256(generation.image.data).hexdigest(),
            "bytes": len(generation.image.data),
        }

    def _address(self, task: Task) -> dict[str, object]:
        path = self.path_of(task)
        if self.record.layout == "npz":
            return {"file": NPZ, "row": task.number}
        if self.record.layout == "webdataset":
            return {"file": self.shard_of(task).name, "member": f"{sample_key(task)}{path.suffix}"}
        return {"file": path.relative_to(self.folder).as_posix()}

    def _load(self) -> None:
        lines, lost = 0, 0
        for line in read_manifest(self.folder):
            lines += 1
            task = self._task_of(line)
            if task is None or self.done[task.number] or not self._is_there(task, line):
                lost += 1
                continue
            self.done[task.number] = 1
            parameters = line.get("parameters")
            if self.parameters is None and isinstance(parameters, dict):
                self.parameters = parameters
        if lost:
            self._forget_lost()
        for part in self.folder.rglob(f"*{TEMPORARY}"):
            part.unlink()

    def _forget_lost(self) -> None:
        seen = bytearray(len(self.plan))

        def kept() -> Iterator[Line]:
            for line in read_manifest(self.folder):
                task = self._task_of(line)
                if task is not None and not seen[task.number] and self._is_there(task, line):
                    seen[task.number] = 1
                    yield line

        manifests.keep_lines(self.folder, kept())

    def _task_of(self, line: Line) -> Task | None:
        """The picture that a line is about; None if the data set has no such picture.

        Raises:
            DatasetError: the line is of another data set.
        """
        class_id, index, seed = (line.get(name) for name in ("class_label", "index", "seed"))
        place = self._places.get(class_id) if isinstance(class_id, int) else None
        if place is None or not isinstance(index, int) or not 0 <= index < self.plan.per_class:
            raise DatasetError(f"the manifest has a picture of another data set: {dict(line)}")
        task = self.plan.task(index * len(self.plan.classes) + place)
        if task.seed != seed:
            raise DatasetError(f"the manifest has another seed than this data set: {dict(line)}")
        return task

    def _is_there(self, task: Task, line: Line) -> bool:
        if self.record.layout == "webdataset" and self.shard_of(task).exists():
            return True
        if self.record.layout == "npz" and (self.folder / NPZ).exists():
            return True
        path = self.path_of(task)
        return path.exists() and path.stat().st_size == line.get("bytes")


def sample_key(task: Task) -> str:
    """A sample's name in a shard: what is before its first dot."""
    return f"{task.entry.id:05}_{task.index:06}"


def drop_spool(folder: Path) -> None:
    """Remove the pictures that have been packed."""
    shutil.rmtree(folder / SPOOL, ignore_errors=True)


def _common(generation: Generation) -> dict[str, object]:
    """What all pictures of a data set share."""
    own = ("class_label", "class_name", "seed", "num_images")
    members = generation.parameters.members
    return {name: value for name, value in members.items() if name not in own}


def _difference(before: dict[str, object], now: dict[str, object]) -> str:
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    words = "; ".join(f"{name} was {before.get(name)}, is {now.get(name)}" for name in names)
    return f"the service's defaults are not those of the pictures that are there: {words}"


def _check_digest(data: bytes, content_type: str, digest: str) -> None:
    """A PNG's metadata name the model that made it."""
    if content_type != "image/png":
        return
    with Pictures.open(io.BytesIO(data)) as picture:
        text = picture.info.get("dit")
    try:
        made_by = json.loads(text)["model_digest"] if isinstance(text, str) else digest
    except (ValueError, KeyError, TypeError):
        return
    if made_by != digest:
        raise DatasetError(f"the service now has another model, of digest {str(made_by)[:12]}…")
