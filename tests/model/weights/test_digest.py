"""The digest: of the bytes that were loaded, whatever happens to the files, and pinned if asked for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from model.networks.vae import Vae
from model.weights import sources
from model.weights.checkpoint import Checkpoint, load_checkpoint
from model.weights.errors import CheckpointError
from model.weights.hub.download import download
from model.weights.load_vae import load_vae
from model.weights.weight_files import WeightFiles
from tests.support.checkpoints import (
    STEM,
    edit_json,
    small_dit,
    small_vae,
    write_pipeline,
    write_tensors,
    write_vae,
)
from tests.support.hub import COMMIT, Repository, running_hub

Write = Callable[[Path], Path]

OTHER = "0" * 64
DESCRIPTORS = Path("/proc/self/fd")


def load(source: Path | str, *, vae: Path | None = None, pinned: str | None = None) -> Checkpoint:
    return load_checkpoint(
        str(source),
        device=torch.device("cpu"),
        dtype=torch.float32,
        vae=None if vae is None else str(vae),
        num_heads=2,
        pinned=pinned,
    )


def weights_of(folder: Path, part: str = "transformer") -> Path:
    return folder / part / f"{STEM}.safetensors"


# What is hashed is what is loaded


def during_the_digest(
    monkeypatch: pytest.MonkeyPatch,
    path: Path,
    begin: Callable[[], object],
    end: Callable[[], object],
) -> None:
    """Do something before ``path`` is hashed, and something after it."""
    digest = WeightFiles.digest

    def watched(self: WeightFiles) -> bytes:
        if self.path != path:
            return digest(self)
        begin()
        found = digest(self)
        end()
        return found

    monkeypatch.setattr(WeightFiles, "digest", watched)


def point(link: Path, target: Path) -> None:
    """Let a link lead somewhere else, all at once."""
    fresh = link.with_name("fresh")
    fresh.symlink_to(target)
    fresh.replace(link)


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="needs /proc")
@pytest.mark.parametrize("part", ["transformer", "vae"])
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_another_file_that_has_the_name_only_while_it_is_hashed_is_not_hashed(
    part: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the hub's cache, where the names are links."""
    model = write_pipeline(tmp_path / "a", kind=kind)
    true = load(model).digest
    other = write_pipeline(tmp_path / "b", small_dit(seed=1), small_vae(seed=1), kind=kind)
    link = model / part / f"{STEM}.{kind}"
    blob = link.rename(tmp_path / "blob")
    link.symlink_to(blob)
    during_the_digest(
        monkeypatch,
        link,
        lambda: point(link, other / part / link.name),
        lambda: point(link, blob),
    )
    assert load(model).digest == true


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_weights_that_are_replaced_while_they_are_read_are_refused(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = weights_of(write_pipeline(tmp_path / "a"), part)
    other = weights_of(write_pipeline(tmp_path / "b", small_dit(seed=1)), part)
    during_the_digest(monkeypatch, file, lambda: other.replace(file), lambda: None)
    with pytest.raises(CheckpointError, match=f"^{file}: was changed while it was read"):
        load(tmp_path / "a")
    monkeypatch.undo()
    assert load(tmp_path / "a").digest


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_weights_that_are_written_to_while_they_are_read_are_refused(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = weights_of(write_pipeline(tmp_path), part)
    content = file.read_bytes()

    def write_in_place() -> None:
        with file.open("r+b") as opened:
            opened.write(content)

    during_the_digest(monkeypatch, file, lambda: None, write_in_place)
    with pytest.raises(CheckpointError, match=f"^{file}: was changed while it was read"):
        load(tmp_path)


def test_the_config_that_is_hashed_is_the_one_that_was_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_pipeline(tmp_path) / "vae" / "config.json"
    true = load(tmp_path)
    edited = json.loads(config.read_text()) | {"scaling_factor": 3.0}

    def edit_and_load(*arguments: Any, **options: Any) -> Vae:
        config.write_text(json.dumps(edited))
        return load_vae(*arguments, **options)

    monkeypatch.setattr("model.weights.checkpoint.load_vae", edit_and_load)
    found = load(tmp_path)
    assert (found.digest, found.vae.scaling_factor) == (true.digest, true.vae.scaling_factor)
    monkeypatch.undo()
    assert load(tmp_path).digest != true.digest


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    """Nobody writes to it: to open it would wait for ever."""
    os.mkfifo(tmp_path / "dit.pt")
    with pytest.raises(CheckpointError, match=r"dit.pt: no such file$"):
        load(tmp_path / "dit.pt", vae=write_vae(tmp_path / "vae"))


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="needs /proc")
def test_loading_leaves_no_file_open(tmp_path: Path) -> None:
    write_pipeline(tmp_path, shards=2)
    load(tmp_path)
    before = len(list(DESCRIPTORS.iterdir()))
    load(tmp_path)
    assert len(list(DESCRIPTORS.iterdir())) == before


# Pinned


def write_file(suffix: str) -> Write:
    def write(folder: Path) -> Path:
        write_vae(folder / "vae")
        return write_tensors(folder / f"dit.{suffix}", small_dit().state_dict())

    return write


def write_folder(**options: object) -> Write:
    return lambda folder: write_pipeline(folder / "model", **options)  # type: ignore[arg-type]


SOURCES = [
    write_file("pt"),
    write_file("safetensors"),
    write_folder(),
    write_folder(kind="bin"),
    write_folder(shards=3),
]


def vae_of(model: Path) -> Path | None:
    return model.parent / "vae" if model.is_file() else None


@pytest.mark.parametrize("write", SOURCES)
def test_the_pinned_digest_is_accepted_and_no_other(write: Write, tmp_path: Path) -> None:
    model = write(tmp_path)
    digest = load(model, vae=vae_of(model)).digest
    assert load(model, vae=vae_of(model), pinned=digest).digest == digest
    with pytest.raises(CheckpointError) as caught:
        load(model, vae=vae_of(model), pinned=OTHER)
    line = str(caught.value)
    assert line.startswith(f"{model}: has the digest {digest}, but DIT_MODEL_SHA256 pins {OTHER}")
    assert "\n" not in line


def test_a_bit_of_any_shard_counts(tmp_path: Path) -> None:
    model = write_pipeline(tmp_path, shards=2)
    pinned = load(model).digest
    for shard in sorted((model / "transformer").glob("*-of-*.safetensors")):
        content = shard.read_bytes()
        shard.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
        with pytest.raises(CheckpointError, match="DIT_MODEL_SHA256"):
            load(model, pinned=pinned)
        shard.write_bytes(content)
    assert load(model, pinned=pinned)


@pytest.mark.parametrize("change", ["weights", "config", "another folder"])
def test_the_autoencoder_is_pinned_with_it(change: str, tmp_path: Path) -> None:
    model = write_pipeline(tmp_path / "model")
    pinned, vae = load(model).digest, None
    if change == "weights":
        write_vae(model / "vae", small_vae(seed=1))
    elif change == "config":
        edit_json(model / "vae" / "config.json", scaling_factor=0.25)
    else:
        vae = write_vae(tmp_path / "vae", small_vae(seed=1))
    with pytest.raises(CheckpointError, match="DIT_MODEL_SHA256"):
        load(model, vae=vae, pinned=pinned)


def test_a_hub_model_is_pinned_as_the_same_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_pipeline(tmp_path / "served")
    pinned = load(folder).digest
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    cache = tmp_path / "cache"
    with running_hub({"someone/dit": Repository(folder)}) as hub:
        ours = partial(download, endpoint=hub.endpoint, cache_dir=cache)
        monkeypatch.setattr(sources, "download", ours)
        assert load("someone/dit", pinned=pinned).digest == pinned
        with pytest.raises(CheckpointError, match=f"^someone/dit: has the digest {pinned}, but"):
            load("someone/dit", pinned=OTHER)
    assert (cache / "models--someone--dit" / "snapshots" / COMMIT).is_dir()
