"""Make: a data set from nothing, or the rest of one that was begun."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from dit_client.async_client import AsyncClient
from dit_client.dataset.files import locked
from dit_client.dataset.manifest import write_csv
from dit_client.dataset.packing import OnPacked, pack_npz, pack_shards
from dit_client.dataset.plan import Plan
from dit_client.dataset.record import LOCK, DatasetError, Layout, Record, check_folder
from dit_client.dataset.run import Run, Status
from dit_client.dataset.store import Store
from dit_client.dataset.window import FIRST_WINDOW, Window
from dit_client.options import Options
from dit_client.results import ClassEntry, Model


@dataclass(frozen=True, slots=True)
class Wish:
    """What a data set should have. ``classes`` are ids, names, synonyms or WordNet ids; empty: all."""

    folder: Path
    per_class: int
    base_seed: int = 0
    classes: Sequence[int | str] = ()
    options: Options = field(default_factory=Options)
    layout: Layout = "folders"
    shard_size: int = 1000
    csv: bool = False


@dataclass(frozen=True, slots=True)
class Listeners:
    """Called while a data set is made."""

    on_change: Callable[[Status], None] = lambda _: None
    on_packed: OnPacked = lambda _: None


async def make_dataset(
    client: AsyncClient,
    wish: Wish,
    *,
    max_in_flight: int = 256,
    timeout_s: float | None = None,
    patience_s: float = 600.0,
    listeners: Listeners = Listeners(),
) -> Status:
    """Make every picture that the folder does not have yet, then pack them if the layout wants that.

    Args:
        client: one without retries (`NO_RETRIES`), for the run has its own.

    Raises:
        DatasetError: the folder has another data set, or the wish cannot be met.
        Locked: another process is at work in the folder.
        DitError: the service refuses, or did not come back within ``patience_s``.
    """
    if wish.layout == "npz" and wish.options.get("output_format") not in (None, "png"):
        raise DatasetError("npz needs png: other formats lose what the evaluation measures")
    model = (await client.models())[0]
    plan = Plan(
        chosen_classes(await client.classes(), wish.classes), wish.per_class, wish.base_seed
    )
    with _opened(wish, plan, model) as store:
        window = Window(most=max_in_flight, limit=min(FIRST_WINDOW, max_in_flight))
        run = Run(
            client,
            store,
            window=window,
            timeout_s=timeout_s,
            patience_s=patience_s,
            on_change=listeners.on_change,
        )
        status = await run.run()
        if not status.failed:
            await anyio.to_thread.run_sync(_pack, store, model, listeners.on_packed)
        if wish.csv:
            write_csv(wish.folder)
        return status


@contextmanager
def _opened(wish: Wish, plan: Plan, model: Model) -> Iterator[Store]:
    """The folder's store, locked; its record is written if it is new or has grown."""
    record = Record(
        base_seed=wish.base_seed,
        per_class=wish.per_class,
        classes=tuple((entry.id, entry.name) for entry in plan.classes),
        options={name: value for name, value in wish.options.items() if value is not None},
        layout=wish.layout,
        shard_size=wish.shard_size if wish.layout == "webdataset" else None,
        model=model.id,
        model_digest=model.digest,
    )
    wish.folder.mkdir(parents=True, exist_ok=True)
    with locked(wish.folder / LOCK):
        check_folder(wish.folder, record)
        record.write(wish.folder)
        store = Store(wish.folder, plan, record)
        try:
            yield store
        finally:
            store.close()


def _pack(store: Store, model: Model, on_packed: OnPacked) -> None:
    if store.record.layout == "webdataset":
        pack_shards(store, on_packed)
    elif store.record.layout == "npz":
        pack_npz(store, model.image_size, on_packed)


def chosen_classes(
    classes: tuple[ClassEntry, ...], wanted: Sequence[int | str]
) -> tuple[ClassEntry, ...]:
    """The classes that are wanted, in order of their ids.

    Raises:
        DatasetError: there is no such class, or several classes share the name.
    """
    if not wanted:
        return classes
    index = _index(classes)
    chosen = {entry.id: entry for entry in (_found(index, each) for each in wanted)}
    return tuple(chosen[class_id] for class_id in sorted(chosen))


def _index(classes: tuple[ClassEntry, ...]) -> dict[int | str, list[ClassEntry]]:
    """The classes by id and by each of their names. As in the service, a class's own name goes before
    another's synonym."""
    index: dict[int | str, list[ClassEntry]] = {entry.id: [entry] for entry in classes}
    own: dict[int | str, list[ClassEntry]] = {}
    for entry in classes:
        own.setdefault(_folded(entry.name), []).append(entry)
        others = (*entry.synonyms, *filter(None, [entry.wordnet_id]))
        for name in {_folded(other) for other in others}:
            index.setdefault(name, []).append(entry)
    return index | own


def _found(index: dict[int | str, list[ClassEntry]], wanted: int | str) -> ClassEntry:
    found = index.get(wanted if isinstance(wanted, int) else _folded(wanted), [])
    if not found and isinstance(wanted, str) and wanted.isdecimal():
        found = index.get(int(wanted), [])
    if not found:
        raise DatasetError(f"no class is called {wanted!r}; `dit classes` lists them")
    if len(found) > 1:
        ids = " or ".join(str(each.id) for each in found)
        raise DatasetError(f"several classes are called {wanted!r}; give the id, {ids}")
    return found[0]


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).casefold().replace("_", " ").split())
