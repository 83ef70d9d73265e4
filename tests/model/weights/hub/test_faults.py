"""A hub that fails: a cached model is used within seconds, a first download is tried again."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from model.weights.errors import CheckpointError
from model.weights.hub import download as downloading
from model.weights.hub.download import download
from model.weights.sources import find_source
from tests.support.checkpoints import STEM, small_dit, small_vae, write_pipeline
from tests.support.hub import COMMIT, LATER_COMMIT, Fault, Repository, running_hub
from tests.support.services import PATIENCE_S

ID = "someone/dit"
STATUSES = ["401", "403", "404", "408", "429", "500", "502", "503"]
KINDS = ["silent", "reset", "portal", "nonsense", "trickle", *STATUSES]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(downloading, "_PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(downloading, "_ANSWER_S", PATIENCE_S)
    monkeypatch.setattr(downloading, "_UPDATE_WINDOW_S", 0.3)


def fetch(
    endpoint: str,
    cache: Path,
    report: Callable[[str], None] = lambda line: None,
    revision: str | None = None,
) -> Path:
    return download(
        ID,
        ("transformer", "vae"),
        revision=revision,
        endpoint=endpoint,
        cache_dir=cache,
        report=report,
    )


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache that has the model."""
    with running_hub({ID: Repository(write_pipeline(tmp_path / "served"))}) as hub:
        fetch(hub.endpoint, tmp_path / "cache")
    return tmp_path / "cache"


@pytest.mark.parametrize("kind", KINDS)
def test_a_cached_model_needs_no_working_hub(
    kind: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "_ANSWER_S", 0.3)
    lines: list[str] = []
    with running_hub({ID: Repository(cache)}) as hub:
        hub.faults.append(Fault(kind))
        assert fetch(hub.endpoint, cache, lines.append).name == COMMIT
        assert not hub.fetched
    (line,) = lines
    assert re.fullmatch(rf"{ID}: .+; using what the cache has of it", line)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cached_model_is_used_if_a_newer_one_does_not_arrive(
    kind: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = write_pipeline(tmp_path / "later", small_dit(seed=1), small_vae(seed=1), kind="bin")
    with running_hub({ID: Repository(later, later=later)}) as hub:
        fetch(
            hub.endpoint, tmp_path / "other"
        )  # the first commit; from now on there is a later one
        hub.faults.append(Fault(kind, path="tree"))
        lines: list[str] = []
        assert fetch(hub.endpoint, cache, lines.append).name == COMMIT
        assert lines[0] == f"{ID}: the hub has a newer commit, {LATER_COMMIT}"
        assert lines[-1].endswith("; using what the cache has of it")
        hub.faults.clear()
        monkeypatch.setattr(downloading, "_UPDATE_WINDOW_S", PATIENCE_S)
        assert fetch(hub.endpoint, cache).name == LATER_COMMIT  # not forgotten


def test_a_name_server_that_never_answers_does_not_hold_up_a_cached_model(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    monkeypatch.setattr(downloading, "_ANSWER_S", 0.3)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait())
    lines: list[str] = []
    assert fetch("http://hub.example", cache, lines.append).name == COMMIT
    assert lines == [f"{ID}: the hub does not answer; using what the cache has of it"]
    answered.set()


@pytest.mark.parametrize(
    "file",
    [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "transformer/config.json",
        "vae/config.json",
        f"vae/{STEM}.safetensors",
    ],
)
def test_a_cache_that_is_not_whole_is_not_used(file: str, cache: Path) -> None:
    (cache / "models--someone--dit" / "snapshots" / COMMIT / file).unlink()
    with running_hub({ID: Repository(cache)}) as hub:
        hub.faults.append(Fault("500"))
        with pytest.raises(CheckpointError, match="the hub answers with status 500"):
            fetch(hub.endpoint, cache)


@pytest.mark.parametrize("kind", ["reset", "portal", "nonsense", "500", "503", "429"])
def test_a_first_download_is_tried_again(kind: str, tmp_path: Path) -> None:
    lines: list[str] = []
    with running_hub({ID: Repository(write_pipeline(tmp_path / "served"))}) as hub:
        hub.faults.append(Fault(kind, times=2))
        assert fetch(hub.endpoint, tmp_path / "cache", lines.append).name == COMMIT
    for number, line in enumerate(lines, 1):
        assert re.fullmatch(rf"{ID}: try {number} of 3: .+; the next one in 0 s", line)
    assert len(lines) == 2


def test_a_file_that_fails_is_downloaded_again(tmp_path: Path) -> None:
    with running_hub({ID: Repository(write_pipeline(tmp_path / "served"))}) as hub:
        hub.faults.append(Fault("502", times=1, path=f"resolve/{COMMIT}/vae"))
        fetch(hub.endpoint, tmp_path / "cache")
        assert hub.faults[0].times == 0
        assert len(hub.fetched) == len(set(hub.fetched))  # the other files are kept


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("reset", "download failed"),
        ("portal", "does not answer like a hub"),
        ("nonsense", "does not answer like a hub"),
        ("401", "check HF_TOKEN"),
        ("403", "check what HF_TOKEN may do"),
        ("404", "the hub answers with status 404"),
        ("500", "the hub answers with status 500"),
    ],
)
def test_what_a_first_download_ends_with_is_said_in_one_line(
    kind: str, problem: str, tmp_path: Path
) -> None:
    with running_hub({ID: Repository(tmp_path)}) as hub:
        hub.faults.append(Fault(kind))
        with pytest.raises(CheckpointError, match=problem) as caught:
            fetch(hub.endpoint, tmp_path / "cache")
    assert str(caught.value).startswith(f"{ID}: ")
    assert str(caught.value).isprintable()


def test_a_silent_connection_is_given_up_and_another_one_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 0.2)
    monkeypatch.setattr(downloading, "_STALL_S", PATIENCE_S)
    with running_hub({ID: Repository(write_pipeline(tmp_path / "served"))}) as hub:
        hub.faults.append(Fault("silent", times=1, path="tree"))
        assert fetch(hub.endpoint, tmp_path / "cache").name == COMMIT


@pytest.mark.parametrize("kind", ["silent", "trickle"])
def test_a_first_download_does_not_wait_for_ever(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "_FIRST_ANSWER_S", 0.2)
    monkeypatch.setattr(downloading, "_STALL_S", 0.5)
    with running_hub({ID: Repository(write_pipeline(tmp_path / "served"))}) as hub:
        for path in ("/api/models/someone/dit", "tree"):
            hub.faults[:] = [Fault(kind, path=path)]
            with pytest.raises(CheckpointError, match="the hub does not answer"):
                fetch(hub.endpoint, tmp_path / path.replace("/", ""))


@pytest.mark.parametrize(
    ("revision", "commit"),
    [
        (None, COMMIT),
        ("v1", COMMIT),
        ("refs/pr/1", LATER_COMMIT),
        (COMMIT, COMMIT),
        (LATER_COMMIT, LATER_COMMIT),
    ],
)
def test_a_revision_is_pinned_and_cached(revision: str | None, commit: str, tmp_path: Path) -> None:
    folder, cache = write_pipeline(tmp_path / "served"), tmp_path / "cache"
    later = write_pipeline(tmp_path / "later", small_dit(seed=1), small_vae(seed=1))
    with running_hub({ID: Repository(folder, later=later)}) as hub:
        root = fetch(hub.endpoint, cache, revision=revision)
        hub.faults.append(Fault("500"))
        assert fetch(hub.endpoint, cache, revision=revision) == root
    assert root.name == commit
    weights = Path("transformer") / f"{STEM}.safetensors"
    source = later if commit == LATER_COMMIT else folder
    assert (root / weights).read_bytes() == (source / weights).read_bytes()


def test_a_cached_commit_is_used_without_a_word_to_the_hub(tmp_path: Path) -> None:
    with running_hub({ID: Repository(write_pipeline(tmp_path / "served"))}) as hub:
        root = fetch(hub.endpoint, tmp_path / "cache", revision=COMMIT)
    lines: list[str] = []
    assert fetch(hub.endpoint, tmp_path / "cache", lines.append, COMMIT) == root
    assert not lines


def test_a_revision_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with (
        running_hub({ID: Repository(write_pipeline(tmp_path / "served"))}) as hub,
        pytest.raises(CheckpointError, match="has no revision v9 on the hub"),
    ):
        fetch(hub.endpoint, tmp_path / "cache", revision="v9")


def test_a_folder_has_no_revision(tmp_path: Path) -> None:
    folder = str(write_pipeline(tmp_path / "dit"))
    for source in ("bundled", folder, "dit.pt"):
        with pytest.raises(CheckpointError, match="is not from the hub: it has no revision v1"):
            find_source(source, lambda line: None, "v1")
