"""Packing: the finished pictures as tar shards (WebDataset) or as one npz, in bounded memory."""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO

from PIL import Image as Pictures

from dit_client.dataset.files import TEMPORARY
from dit_client.dataset.plan import Task
from dit_client.dataset.record import DatasetError
from dit_client.dataset.store import NPZ, Store, drop_spool, sample_key

OnPacked = Callable[[int], None]
"""Called with the number of pictures that are packed."""


def pack_shards(store: Store, on_packed: OnPacked) -> None:
    """Write every shard that is not there: each sample an image, its class id (.cls) and its metadata
    (.json). The same pictures give the same bytes. A shard's pictures are removed once it is on the disk.
    """
    size = store.record.shard_size
    assert size is not None, "this is a bug: only shards have a size"
    total = len(store.plan)
    for first in range(0, total, size):
        tasks = [store.plan.task(number) for number in range(first, min(first + size, total))]
        path = store.shard_of(tasks[0])
        if not path.exists():
            _write_whole(path, partial(_write_shard, store=store, tasks=tasks))
        for task in tasks:
            store.path_of(task).unlink(missing_ok=True)
        on_packed(first + len(tasks))
    drop_spool(store.folder)


def pack_npz(store: Store, image_size: int, on_packed: OnPacked) -> None:
    """Write `samples.npz` as the evaluation of guided-diffusion (ADM) reads it: ``arr_0``, uint8
    (N, H, W, 3), and ``arr_1``, the class ids, int64 (N,). One picture at a time is in memory.

    Raises:
        DatasetError: a picture is not of the model's size.
    """
    path = store.folder / NPZ
    if not path.exists():
        _write_whole(path, lambda file: _write_npz(file, store, image_size, on_packed))
    drop_spool(store.folder)


def _write_whole(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file under another name, wait until it is on the disk, and rename it."""
    part = path.with_name(path.name + TEMPORARY)
    with part.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _write_shard(file: IO[bytes], store: Store, tasks: list[Task]) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for task in tasks:
            path, key = store.path_of(task), sample_key(task)
            about = {
                "class_label": task.entry.id,
                "class_name": task.entry.name,
                "seed": task.seed,
                "parameters": store.parameters,
            }
            _add(archive, f"{key}{path.suffix}", path.read_bytes())
            _add(archive, f"{key}.cls", str(task.entry.id).encode())
            _add(archive, f"{key}.json", json.dumps(about, ensure_ascii=False).encode())


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    archive.addfile(entry, io.BytesIO(content))


def _write_npz(file: IO[bytes], store: Store, image_size: int, on_packed: OnPacked) -> None:
    total = len(store.plan)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        with archive.open(_entry("arr_0.npy"), "w", force_zip64=True) as array:
            array.write(npy_header("|u1", (total, image_size, image_size, 3)))
            for task in store.plan:
                array.write(_pixels(store.path_of(task), image_size))
                on_packed(task.number + 1)
        with archive.open(_entry("arr_1.npy"), "w", force_zip64=True) as array:
            array.write(npy_header("<i8", (total,)))
            for labels in _labels(store):
                array.write(labels)


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name)  # of 1980, so that the bytes repeat


def _labels(store: Store) -> Iterator[bytes]:
    return (struct.pack("<q", task.entry.id) for task in store.plan)


def _pixels(path: Path, image_size: int) -> bytes:
    with Pictures.open(path) as picture:
        if picture.size != (image_size, image_size):
            raise DatasetError(f"{path} is {picture.size}, not {image_size} x {image_size} pixels")
        return picture.convert("RGB").tobytes()


def npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """The head of a .npy file, version 1.0 of NumPy's format, for an array in C order."""
    fields = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    length = -(-(10 + len(fields) + 1) // 64) * 64 - 10
    return (
        b"\x93NUMPY\x01\x00" + struct.pack("<H", length) + fields.ljust(length - 1).encode() + b"\n"
    )
