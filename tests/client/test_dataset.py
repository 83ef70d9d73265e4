"""Data sets: complete, nothing twice, and the same whatever interrupted the run."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import hashlib
import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image as Pictures

from dit_client import (
    NO_RETRIES,
    AsyncClient,
    ClassEntry,
    Client,
    InvalidRequest,
    NoAnswer,
    Options,
)
from dit_client.dataset.files import Locked
from dit_client.dataset.make import Listeners, Wish, chosen_classes, make_dataset
from dit_client.dataset.manifest import Manifest
from dit_client.dataset.record import DatasetError
from dit_client.dataset.run import Status
from dit_client.dataset.window import Window
from tests.support.checkpoints import small_dit, write_pipeline
from tests.support.services import (
    GatedRunner,
    Running,
    load_small_checkpoint,
    load_small_runner,
    running_service,
)

STEPS = Options(num_sampling_steps=2)


def wish(folder: Path, **changes: object) -> Wish:
    plain = Wish(folder, per_class=3, base_seed=7, options=STEPS)
    return replace(plain, **changes)  # type: ignore[arg-type]


def make(
    url: str,
    wanted: Wish,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    on_change: Callable[[Status], None] = lambda _: None,
    patience_s: float = 5.0,
    max_in_flight: int = 256,
) -> Status:
    async def run() -> Status:
        async with AsyncClient(url, retries=NO_RETRIES, transport=transport) as client:
            return await make_dataset(
                client,
                wanted,
                max_in_flight=max_in_flight,
                patience_s=patience_s,
                listeners=Listeners(on_change),
            )

    return asyncio.run(run())


def lines_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    """The pictures of a data set by their path."""
    files = sorted(folder.rglob("*.png"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


class Stop(Exception):
    """Ends a run from within."""


def stop_after(pictures: int) -> Callable[[Status], None]:
    def on_change(status: Status) -> None:
        if status.made >= pictures:
            raise Stop

    return on_change


@contextlib.contextmanager
def stopped() -> Iterator[None]:
    with pytest.raises(BaseExceptionGroup) as caught:
        yield
    assert caught.value.subgroup(Stop)


@pytest.fixture
def made(service: Running) -> Callable[[], float]:
    """The images that the service has made since the test began."""
    before = service.metric("dit_images_total", outcome="ok")
    return lambda: service.metric("dit_images_total", outcome="ok") - before


def test_every_picture_has_its_file_its_line_and_its_seed(service: Running, tmp_path: Path) -> None:
    status = make(service.url, wish(tmp_path / "set", csv=True))
    folder = tmp_path / "set"
    assert (status.total, status.done, status.made, status.failed) == (15, 15, 15, [])
    lines = lines_of(folder)
    assert len(lines) == 15
    assert {line["file"] for line in lines} == set(contents(folder))
    assert len({line["seed"] for line in lines}) == 15
    for line in lines:
        data = (folder / str(line["file"])).read_bytes()
        assert hashlib.sha256(data).hexdigest() == line["sha256"]
        assert len(data) == line["bytes"]
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {
        "00000-apple",
        "00001-pear",
        "00002-plum",
        "00003-quince",
        "00004-fig",
    }
    with Client(service.url) as client:
        line = next(line for line in lines if line["file"] == "00003-quince/000001.png")
        seed = line["seed"]
        assert isinstance(seed, int)
        assert (
            client.generate(3, seed=seed, num_sampling_steps=2).image.data
            == contents(folder)["00003-quince/000001.png"]
        )
    rows = list(csv.DictReader(io.StringIO((folder / "manifest.csv").read_text())))
    assert [row["file"] for row in rows] == [line["file"] for line in lines]
    assert rows[0]["num_sampling_steps"] == "2"


def test_a_stopped_run_goes_on_and_makes_nothing_twice(
    service: Running, tmp_path: Path, made: Callable[[], float]
) -> None:
    make(service.url, wish(tmp_path / "whole"))
    assert made() == 15
    with stopped():
        make(service.url, wish(tmp_path / "parts"), on_change=stop_after(6))
    there = len(lines_of(tmp_path / "parts"))
    assert 6 <= there < 15
    status = make(service.url, wish(tmp_path / "parts"))
    assert (status.made, status.done) == (15 - there, 15)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert make(service.url, wish(tmp_path / "parts")).made == 0
    assert len(lines_of(tmp_path / "parts")) == 15


def test_what_a_killed_run_leaves_is_repaired(service: Running, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    make(service.url, wish(folder))
    before = contents(folder)
    manifest = folder / "manifest.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(b"".join(lines[:-1]) + lines[-1][:30])  # the last line is torn
    gone, torn = (json.loads(line)["file"] for line in lines[:2])
    (folder / gone).unlink()  # a line without its picture
    (folder / torn).write_bytes(before[torn][:50])  # one cut off
    (folder / "00001-pear" / "000009.png.part").write_bytes(b"half")  # a file being written
    status = make(service.url, wish(folder))
    assert status.made == 3
    assert contents(folder) == before
    assert len(lines_of(folder)) == 15
    assert len({line["file"] for line in lines_of(folder)}) == 15
    assert not list(folder.rglob("*.part"))


def test_a_manifest_torn_by_a_loss_of_power(service: Running, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    make(service.url, wish(folder))
    manifest = folder / "manifest.jsonl"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole + b'{"file": "\0\0\0\n')
    assert make(service.url, wish(folder)).made == 0
    assert manifest.read_bytes() == whole
    manifest.write_bytes(b"nonsense\n" + whole)
    with pytest.raises(DatasetError, match=r"line 1 of .*manifest\.jsonl"):
        make(service.url, wish(folder))


def test_a_line_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path: Path) -> None:
    class Full(io.FileIO):
        def write(self, data: object) -> int:
            assert isinstance(data, bytes)
            return super().write(data[:7])

    path = tmp_path / "manifest.jsonl"
    path.write_bytes(b'{"x": 1}\n')
    with Full(path, "ab") as file, pytest.raises(OSError, match="No space"):
        Manifest(file, 9).append({"x": 2})
    assert path.read_bytes() == b'{"x": 1}\n'


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base_seed": 8}, "base_seed 7, not 8"),
        ({"options": Options(num_sampling_steps=3)}, "num_sampling_steps"),
        ({"per_class": 2}, "per_class 3, not 2"),
        ({"classes": ["fig"]}, "classes"),
        ({"layout": "npz"}, "layout"),
    ],
)
def test_other_settings_are_refused(
    service: Running, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    folder = tmp_path / "set"
    make(service.url, wish(folder))
    before = contents(folder)
    with pytest.raises(DatasetError, match=words):
        make(service.url, wish(folder, **changes))
    assert contents(folder) == before


def test_folders_may_grow(service: Running, tmp_path: Path) -> None:
    make(service.url, wish(tmp_path / "grown", classes=["fig", 1]))
    status = make(service.url, wish(tmp_path / "grown", per_class=4))
    assert (status.total, status.made) == (20, 14)
    make(service.url, wish(tmp_path / "whole", per_class=4))
    assert contents(tmp_path / "grown") == contents(tmp_path / "whole")


def test_a_folder_with_other_things_is_left_alone(service: Running, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DatasetError, match="not empty"):
        make(service.url, wish(tmp_path))
    (tmp_path / "dataset.json").write_text("[]")
    with pytest.raises(DatasetError, match=r"dataset\.json"):
        make(service.url, wish(tmp_path))


def test_another_model_is_refused(service: Running, tmp_path: Path) -> None:
    make(service.url, wish(tmp_path / "set"))
    folder = write_pipeline(tmp_path / "model", small_dit(seed=1))
    with (
        running_service(lambda: load_small_runner(folder)) as other,
        pytest.raises(DatasetError, match="model_digest"),
    ):
        make(other.url, wish(tmp_path / "set", per_class=4))


def test_other_defaults_of_the_service_are_refused(
    service: Running, pipeline_folder: Path, tmp_path: Path
) -> None:
    make(service.url, wish(tmp_path / "set"))

    class OtherGuidance(Passing):
        async def answer(self, request: httpx.Request) -> httpx.Response:
            if request.url.path == "/generate":
                fields = json.loads(request.content) | {"cfg_scale": 3.0}
                headers = {"Accept": "application/json"}
                request = httpx.Request("POST", request.url, json=fields, headers=headers)
            return await self.real.handle_async_request(request)

    with pytest.raises(DatasetError, match=r"cfg_scale was 1\.5, is 3\.0"):
        make(service.url, wish(tmp_path / "set", per_class=4), transport=OtherGuidance())
    assert len(lines_of(tmp_path / "set")) == 15


def test_a_line_of_another_seed_is_another_data_set(service: Running, tmp_path: Path) -> None:
    make(service.url, wish(tmp_path))
    lines = lines_of(tmp_path)
    lines[4]["seed"] = 1
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (tmp_path / "manifest.jsonl").write_text(text)
    with pytest.raises(DatasetError, match="another seed"):
        make(service.url, wish(tmp_path, per_class=4))


def test_a_picture_of_another_model_is_refused_though_the_service_kept_its_name(
    service: Running, tmp_path: Path
) -> None:
    """As from a second replica that has been updated."""
    folder = write_pipeline(tmp_path / "model", small_dit(seed=1))
    with running_service(lambda: load_small_runner(folder)) as other:

        class Mixed(Passing):
            async def answer(self, request: httpx.Request) -> httpx.Response:
                if request.url.path == "/generate":
                    url = f"{other.url}/generate"
                    headers = {"Accept": "application/json"}
                    request = httpx.Request(
                        "POST", url, json=json.loads(request.content), headers=headers
                    )
                return await self.real.handle_async_request(request)

        with pytest.raises(DatasetError, match="another model"):
            make(service.url, wish(tmp_path / "set"), transport=Mixed())
    assert contents(tmp_path / "set") == {}


def test_two_runs_do_not_share_a_folder(service: Running, tmp_path: Path) -> None:
    async def both() -> None:
        async with AsyncClient(service.url, retries=NO_RETRIES) as client:
            calls = (make_dataset(client, wish(tmp_path / "set")) for _ in range(2))
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert sorted(type(each).__name__ for each in results) == ["Locked", "Status"]

    asyncio.run(both())
    assert issubclass(Locked, Exception)


def test_shards_hold_every_picture_once_and_repeat(service: Running, tmp_path: Path) -> None:
    make(service.url, wish(tmp_path / "folders"))
    with stopped():
        make(
            service.url,
            wish(tmp_path / "set", layout="webdataset", shard_size=4),
            on_change=stop_after(5),
        )
    for name in ("set", "again"):
        make(service.url, wish(tmp_path / name, layout="webdataset", shard_size=4))
    shards = sorted((tmp_path / "set").glob("*.tar"))
    assert [path.name for path in shards] == [f"shard-00000{i}.tar" for i in range(4)]
    assert [path.read_bytes() for path in shards] == [
        path.read_bytes() for path in sorted((tmp_path / "again").glob("*.tar"))
    ]
    members: dict[str, bytes] = {}
    for path in shards:
        with tarfile.open(path) as archive:
            names = archive.getnames()
            assert [name.partition(".")[2] for name in names[:3]] == ["png", "cls", "json"]
            for name in names:
                assert name not in members
                file = archive.extractfile(name)
                assert file is not None
                members[name] = file.read()
    assert len(members) == 45
    expected = contents(tmp_path / "folders")
    for line in lines_of(tmp_path / "set"):
        data = members[str(line["member"])]
        assert hashlib.sha256(data).hexdigest() == line["sha256"]
        assert data in expected.values()
        key = str(line["member"]).removesuffix(".png")
        assert members[f"{key}.cls"] == str(line["class_label"]).encode()
        assert json.loads(members[f"{key}.json"])["seed"] == line["seed"]
        with tarfile.open(tmp_path / "set" / str(line["file"])) as archive:
            assert str(line["member"]) in archive.getnames()
    assert not (tmp_path / "set" / ".pictures").exists()
    assert make(service.url, wish(tmp_path / "set", layout="webdataset", shard_size=4)).made == 0


def test_packing_goes_on_where_it_was_killed(service: Running, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    wanted = wish(folder, layout="webdataset", shard_size=4)
    packed: list[int] = []

    def kill(count: int) -> None:
        packed.append(count)
        if len(packed) == 2:
            raise Stop

    async def run() -> None:
        async with AsyncClient(service.url, retries=NO_RETRIES) as client:
            await make_dataset(client, wanted, listeners=Listeners(on_packed=kill))

    with pytest.raises(Stop):
        asyncio.run(run())
    (folder / "shard-000002.tar.part").write_bytes(b"half")
    assert make(service.url, wanted).made == 0
    assert len(list(folder.glob("*.tar"))) == 4
    assert not list(folder.glob("*.part"))


def test_npz_is_what_the_evaluation_reads(service: Running, tmp_path: Path) -> None:
    make(service.url, wish(tmp_path / "folders"))
    make(service.url, wish(tmp_path / "set", layout="npz"))
    with np.load(tmp_path / "set" / "samples.npz") as arrays:
        images, labels = arrays["arr_0"], arrays["arr_1"]
    assert (images.shape, images.dtype, images.flags.c_contiguous) == (
        (15, 8, 8, 3),
        np.uint8,
        True,
    )
    assert labels.tolist() == [0, 1, 2, 3, 4] * 3
    for line in lines_of(tmp_path / "set"):
        row = line["row"]
        assert isinstance(row, int)
        path = f"{line['class_label']:05}-{line['class_name']}/{line['index']:06}.png"
        picture = Pictures.open(tmp_path / "folders" / path).convert("RGB")
        assert np.array_equal(images[row], np.asarray(picture))
    assert not (tmp_path / "set" / ".pictures").exists()
    assert make(service.url, wish(tmp_path / "set", layout="npz")).made == 0
    lossy = Options(output_format="jpeg")
    with pytest.raises(DatasetError, match="npz needs png"):
        make(service.url, wish(tmp_path / "other", layout="npz", options=lossy))


def test_a_small_queue_is_not_stormed(pipeline_folder: Path, tmp_path: Path) -> None:
    runner = GatedRunner(load_small_checkpoint(pipeline_folder))
    with (
        running_service(lambda: runner, max_queue_row_steps=24) as running,
        ThreadPoolExecutor(1) as pool,
    ):
        runner.close()
        making = pool.submit(make, running.url, wish(tmp_path, per_class=8))
        full = {"route": "/generate", "outcome": "full"}
        while not running.metric("dit_requests_total", **full) and not making.done():
            runner.let(1)
            time.sleep(0.05)  # or the service may be faster than its client
        runner.open()
        status = making.result()
    assert status.done == 40
    assert 0 < status.refusals <= 12


def test_a_wrong_request_ends_the_run_at_once(service: Running, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cfg_scale"):
        make(service.url, wish(tmp_path, options=Options(cfg_scale=99.0)))


def test_an_unknown_class_is_named(service: Running, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no class is called 'banana'"):
        make(service.url, wish(tmp_path, classes=["fig", "banana"]))


CLASSES = (
    ClassEntry(0, "crane", ("hoist",), "n03126707"),
    ClassEntry(1, "heron", ("crane",), "n02009229"),
    ClassEntry(2, "Loupe", ("hand glass",)),
    ClassEntry(3, "mirror", ("hand_glass",)),
)


@pytest.mark.parametrize(
    ("wanted", "class_id"),
    [
        ("crane", 0),  # its own name, and only a synonym of 1
        ("N02009229", 1),
        ("loupe", 2),
        ("3", 3),
        (3, 3),
    ],
)
def test_classes_are_found_as_the_service_finds_them(wanted: int | str, class_id: int) -> None:
    assert chosen_classes(CLASSES, [wanted]) == (CLASSES[class_id],)


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        ("Hand glass", "several classes are called 'Hand glass'; give the id, 2 or 3"),
        ("", "no class is called ''"),
        (4, "no class is called 4"),
    ],
)
def test_a_class_that_is_not_one_is_refused(wanted: int | str, complaint: str) -> None:
    with pytest.raises(DatasetError, match=complaint):
        chosen_classes(CLASSES, [wanted])


class Passing(httpx.AsyncBaseTransport):
    """A transport that can interfere with what it passes on."""

    def __init__(self) -> None:
        self.real = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        return await self.answer(request)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        return await self.real.handle_async_request(request)

    async def aclose(self) -> None:
        await self.real.aclose()


class Failing(Passing):
    """Every request for this class fails with 500, while ``broken``."""

    def __init__(self, class_id: int) -> None:
        super().__init__()
        self.class_id = class_id
        self.seen = 0

    async def answer(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST" and json.loads(request.content)["class_label"] == self.class_id:
            self.seen += 1
            return httpx.Response(500, json={"title": "Image failed", "detail": "NaN"})
        return await super().answer(request)


def test_a_picture_that_fails_costs_no_other(service: Running, tmp_path: Path) -> None:
    transport = Failing(2)
    status = make(service.url, wish(tmp_path), transport=transport)
    assert (status.done, len(status.failed)) == (12, 3)
    assert {task.entry.id for task, _ in status.failed} == {2}
    assert transport.seen == 12  # each was tried four times
    assert make(service.url, wish(tmp_path)).made == 3


class Together(Passing):
    """Answers come two at a time, in the same turn of the event loop."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[asyncio.Event] = []

    async def answer(self, request: httpx.Request) -> httpx.Response:
        response = await super().answer(request)
        if request.method == "POST":
            await response.aread()
            self.waiting.append(asyncio.Event())
            event = self.waiting[-1]
            if len(self.waiting) == 2:
                for each in self.waiting:
                    each.set()
                self.waiting.clear()
            await event.wait()
        return response


def test_no_picture_is_left_out_if_all_in_flight_end_at_once(
    service: Running, tmp_path: Path
) -> None:
    wanted = wish(tmp_path, classes=["fig", "pear"])
    in_flight: list[int] = []

    def watch(status: Status) -> None:
        in_flight.append(status.in_flight)

    transport = Together()
    status = make(service.url, wanted, transport=transport, max_in_flight=2, on_change=watch)
    assert status.made == 6
    assert max(in_flight) < 2  # of two, after one has ended


class Outage(Passing):
    """Connections fail after a number of requests, until as many more have been tried."""

    def __init__(self, after: int, failures: int) -> None:
        super().__init__()
        self.after = after
        self.failures = failures
        self.tries = 0

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.tries += 1
        if self.after < self.tries <= self.after + self.failures:
            raise httpx.ConnectError("refused")
        return await super().answer(request)


def test_an_outage_costs_no_picture_and_doubles_none(
    service: Running, tmp_path: Path, made: Callable[[], float]
) -> None:
    status = make(service.url, wish(tmp_path / "set"), transport=Outage(8, 6))
    assert status.outages >= 1
    assert (status.done, made()) == (15, 15)
    assert len(lines_of(tmp_path / "set")) == 15


def test_after_an_outage_the_window_begins_anew(
    service: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restarts: list[float] = []
    restart = Window.restart

    def noted(self: Window, now: float) -> None:
        restarts.append(now)
        restart(self, now)

    monkeypatch.setattr(Window, "restart", noted)
    status = make(service.url, wish(tmp_path), transport=Outage(8, 6))
    assert len(restarts) == status.outages >= 1


def test_another_model_after_an_outage_is_refused(service: Running, tmp_path: Path) -> None:
    """Also where the files do not name their model, as WebP's do not."""
    folder = write_pipeline(tmp_path / "model", small_dit(seed=1))
    with running_service(lambda: load_small_runner(folder)) as other:

        class Replaced(Outage):
            async def answer(self, request: httpx.Request) -> httpx.Response:
                if self.tries > self.after:
                    request.url = request.url.copy_with(port=httpx.URL(other.url).port)
                return await super().answer(request)

        options = Options(num_sampling_steps=2, output_format="webp")
        with pytest.raises(DatasetError, match="another model"):
            make(service.url, wish(tmp_path / "set", options=options), transport=Replaced(8, 6))
    assert 0 < len(lines_of(tmp_path / "set")) <= 8


def test_a_service_that_stays_away_ends_the_run(service: Running, tmp_path: Path) -> None:
    with pytest.raises(NoAnswer):
        make(service.url, wish(tmp_path), transport=Outage(8, 10**6), patience_s=0.5)
    assert make(service.url, wish(tmp_path)).done == 15
