"""Models are downloaded from the hub once, only the files needed, and then read from the cache."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from model.weights.errors import CheckpointError
from model.weights.hub.download import download, is_hub_id
from tests.support.checkpoints import (
    STEM,
    small_dit,
    small_vae,
    write_json,
    write_pipeline,
    write_tensors,
    write_vae,
)
from tests.support.hub import COMMIT, Hub, Repository, running_hub

PARTS = ("transformer", "vae")
CONFIGS = {
    "model_index.json",
    "scheduler/scheduler_config.json",
    "transformer/config.json",
    "vae/config.json",
}


@pytest.fixture(autouse=True)
def _local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("model.weights.hub.download._PAUSES_S", (0.0, 0.0))


def serve(
    folder: Path, *, gated: bool = False, cut: bool = False, later: Path | None = None
) -> AbstractContextManager[Hub]:
    return running_hub({"someone/dit": Repository(folder, gated=gated, cut=cut, later=later)})


def fetch(hub: Hub, cache: Path, folders: tuple[str, ...] = PARTS) -> Path:
    return download("someone/dit", folders, endpoint=hub.endpoint, cache_dir=cache)


def test_only_what_is_needed_is_downloaded(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "served")
    write_tensors(folder / "transformer" / f"{STEM}.bin", small_dit().state_dict())
    write_tensors(folder / "vae" / f"{STEM}.fp16.safetensors", small_dit().state_dict())
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / "samples.png").write_bytes(b"\x89PNG")
    with serve(folder) as hub:
        found = fetch(hub, tmp_path / "cache")
    weights = {f"{part}/{STEM}.safetensors" for part in PARTS}
    assert set(hub.fetched) == CONFIGS | weights | {"README.md"}
    assert len(hub.fetched) == len(set(hub.fetched))
    assert found.name == COMMIT
    for file in hub.fetched:
        assert (found / file).read_bytes() == (folder / file).read_bytes()


def test_bin_is_downloaded_only_for_the_folder_without_safetensors(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "served", kind="bin")
    write_vae(folder / "vae")
    with serve(folder) as hub:
        fetch(hub, tmp_path / "cache")
    weights = {f"transformer/{STEM}.bin", f"vae/{STEM}.safetensors"}
    assert set(hub.fetched) == CONFIGS | weights


@pytest.mark.parametrize("variant", ["fp16", "bf16", "fp32", "ema", "non_ema"])
def test_a_variant_is_downloaded_if_there_is_nothing_else(variant: str, tmp_path: Path) -> None:
    with serve(write_pipeline(tmp_path / "served", variant=variant)) as hub:
        fetch(hub, tmp_path / "cache")
    assert f"transformer/{STEM}.{variant}.safetensors" in hub.fetched


@pytest.mark.parametrize(
    "names",
    [
        [f"{STEM}.bf16-00001-of-00002.safetensors", f"{STEM}.safetensors.index.bf16.json"],
        [f"{STEM}-00001-of-00002.bf16.safetensors", f"{STEM}.bf16.safetensors.index.json"],
        [f"{STEM}.bf16-00001-of-00001.bin", f"{STEM}.bin.index.bf16.json"],
    ],
)
def test_a_variants_shards_are_downloaded_with_their_index(
    names: list[str], tmp_path: Path
) -> None:
    folder = write_pipeline(tmp_path / "served") / "transformer"
    (folder / f"{STEM}.safetensors").unlink()
    for name in (*names, f"{STEM}.fp16.bin", f"{STEM}.odd.safetensors", "other.bf16.safetensors"):
        (folder / name).write_bytes(name.encode())
    with serve(folder.parent) as hub:
        found = fetch(hub, tmp_path / "cache")
    assert {path.name for path in (found / "transformer").iterdir()} == {"config.json", *names}


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards_are_downloaded_with_their_index(kind: str, tmp_path: Path) -> None:
    with serve(write_pipeline(tmp_path / "served", kind=kind, shards=2)) as hub:
        found = fetch(hub, tmp_path / "cache")
    assert len(list((found / "transformer").glob(f"{STEM}-0000?-of-00002.{kind}"))) == 2
    assert (found / "transformer" / f"{STEM}.{kind}.index.json").is_file()


def test_a_lone_autoencoder_is_found_in_the_root(tmp_path: Path) -> None:
    folder = write_vae(tmp_path / "served")
    write_vae(folder, kind="bin")
    with serve(folder) as hub:
        found = fetch(hub, tmp_path / "cache", (".", "vae"))
    assert set(hub.fetched) == {"config.json", f"{STEM}.safetensors"}
    assert (found / "config.json").is_file()


def test_the_cache_is_reused_and_serves_without_the_hub(tmp_path: Path) -> None:
    with serve(write_pipeline(tmp_path / "served", kind="bin")) as hub:
        found = fetch(hub, tmp_path / "cache")
        fetched = list(hub.fetched)
        assert fetch(hub, tmp_path / "cache") == found
    assert hub.fetched == fetched
    assert fetch(hub, tmp_path / "cache") == found


def test_a_long_download_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.weights.hub.download._PROGRESS_S", 0.05)
    folder = write_pipeline(tmp_path / "served", kind="bin")
    lines: list[str] = []
    with running_hub({"someone/dit": Repository(folder, broken=True)}) as hub:  # takes a second
        download(
            "someone/dit",
            PARTS,
            endpoint=hub.endpoint,
            cache_dir=tmp_path / "cache",
            report=lines.append,
        )
    assert lines
    assert all(re.fullmatch(r"someone/dit: downloaded \d+ MB so far", line) for line in lines)


def test_parts_that_a_killed_download_left_are_removed(tmp_path: Path) -> None:
    blobs = tmp_path / "cache" / "models--someone--dit" / "blobs"
    blobs.mkdir(parents=True)
    old, new = blobs / "aa.1.incomplete", blobs / "bb.2.incomplete"
    for part in (old, new):
        part.write_bytes(b"part")
    an_hour_ago = time.time() - 3600
    os.utime(old, (an_hour_ago, an_hour_ago))
    with serve(write_pipeline(tmp_path / "served")) as hub:
        fetch(hub, tmp_path / "cache")
    assert list(blobs.glob("*.incomplete")) == [new]  # another process may be writing it


def test_a_repository_that_moves_meanwhile_gives_files_of_one_revision(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "served", kind="bin")
    later = write_pipeline(tmp_path / "later", small_dit(seed=1), small_vae(seed=1), kind="bin")
    weights = {f"{part}/{STEM}.bin" for part in PARTS}
    with serve(folder, later=later) as hub:
        found = fetch(hub, tmp_path / "cache")
        assert set(hub.fetched) == CONFIGS | weights
        for file in hub.fetched:
            assert (found / file).read_bytes() == (folder / file).read_bytes()
        anew = fetch(hub, tmp_path / "cache")
    for file in weights:
        assert (anew / file).read_bytes() == (later / file).read_bytes()


def failure(repo_id: str, endpoint: str, cache: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        download(repo_id, PARTS, endpoint=endpoint, cache_dir=cache)
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith(f"{repo_id}: ")
    return message


def free_address() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_repository_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with serve(tmp_path) as hub:
        message = failure("someone/else", hub.endpoint, tmp_path / "cache")
    assert "is neither a local folder nor on the hub" in message


def test_a_gated_repository_is_named(tmp_path: Path) -> None:
    with serve(write_pipeline(tmp_path / "served"), gated=True) as hub:
        message = failure("someone/dit", hub.endpoint, tmp_path / "cache")
    assert "is gated" in message


def test_an_unreachable_hub_is_named(tmp_path: Path) -> None:
    message = failure("someone/dit", free_address(), tmp_path / "cache")
    assert "is not in the cache, and the hub cannot be reached" in message


def test_a_truncated_download_is_named(tmp_path: Path) -> None:
    with serve(write_pipeline(tmp_path / "served"), cut=True) as hub:
        message = failure("someone/dit", hub.endpoint, tmp_path / "cache")
    assert "download failed" in message


def test_a_name_the_hub_refuses_is_named(tmp_path: Path) -> None:
    with serve(tmp_path) as hub:
        assert "download failed" in failure("someone/a..b", hub.endpoint, tmp_path / "cache")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("facebook/DiT-XL-2-256", True),
        ("stabilityai/sd-vae-ft-mse", True),
        ("bundled", False),
        ("./model", False),
        ("../model", False),
        ("/models/dit", False),
        ("runs/new/model", False),
        ("owner/naïve", False),
        ("owner/name\n", False),
    ],
)
def test_hub_ids_are_distinguished_from_paths(source: str, expected: bool) -> None:
    assert is_hub_id(source) == expected


LOADER = """
import sys, torch
from model.weights.checkpoint import load_checkpoint
from model.weights.errors import CheckpointError
for source in sys.argv[1:]:
    try:
        found = load_checkpoint(source, device=torch.device("cpu"), dtype=torch.float32)
        print(found.name, found.licence, found.image_size, found.digest)
    except CheckpointError as error:
        print(error)
"""


def load_in_new_process(endpoint: str, home: Path, *sources: str) -> list[str]:
    """Load in a new process, which reads HF_ENDPOINT and HF_HOME at start; returns what it prints."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", LOADER, *sources],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


def test_hub_ids_load_through_the_hub_and_cache_in_the_environment(tmp_path: Path) -> None:
    model = write_pipeline(tmp_path / "model")
    official = write_tensors(tmp_path / "dit.pt", small_dit().state_dict())
    write_json(tmp_path / "config.json", {"num_heads": 2})
    repositories = {
        "facebook/DiT-XL-2-256": Repository(model),
        "stabilityai/sd-vae-ft-mse": Repository(write_vae(tmp_path / "vae")),
        "someone/other": Repository(write_json(tmp_path / "other" / "config.json", {}).parent),
    }
    sources = ["facebook/DiT-XL-2-256", str(official)]
    with running_hub(repositories) as hub:
        lines = load_in_new_process(hub.endpoint, tmp_path / "home", *sources, "someone/other")
    assert lines[0].startswith("facebook/DiT-XL-2-256 CC-BY-NC-4.0 8 ")
    assert lines[1].startswith("dit.pt None 8 ")
    assert lines[2].endswith("model_index.json: no such file")
    again = load_in_new_process(free_address(), tmp_path / "home", *sources, "someone/new")
    assert again[:2] == lines[:2]
    assert again[2] == (
        "someone/new: no folder someone/new here; tried as a hub id:"
        " is not in the cache, and the hub cannot be reached"
    )
