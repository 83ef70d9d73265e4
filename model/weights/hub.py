"""The model hub: downloading parts of a repository through huggingface_hub and its cache."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from model.weights.errors import CheckpointError, first_line
from model.weights.weight_files import FILE_NAMES

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_PIPELINE_FILES = ("model_index.json", "README.md", "scheduler/scheduler_config.json")
_SAFETENSORS = (*FILE_NAMES[:2], "diffusion_pytorch_model-?????-of-?????.safetensors")
_BIN = (*FILE_NAMES[2:4], "diffusion_pytorch_model-?????-of-?????.bin")
_FORMATS = (_SAFETENSORS, _BIN, FILE_NAMES[4:])  # in order of preference

_ABANDONED_S = 600.0
"""A part of a file that was written to this long ago is of a process that was killed."""

_PROGRESS_S = 20.0
"""How often a download is reported; the library's own bars are for terminals."""


def is_hub_id(source: str) -> bool:
    """Whether the text has the form of a repository's name, owner/name."""
    return _HUB_ID.fullmatch(source) is not None


def download(
    repo_id: str,
    folders: tuple[str, ...],
    *,
    endpoint: str | None = None,
    cache_dir: Path | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Path:
    """Download the configs and weights of some folders of a repository, and its model card.

    Each folder's weights come in one format only: safetensors, else .bin, else the fp16 variant.
    Cached files are not downloaded again, and are used if the hub cannot be reached.

    Args:
        repo_id: owner/name.
        folders: for example "transformer" and "vae"; "." is the repository's root.
        endpoint: the hub's address; HF_ENDPOINT by default.
        cache_dir: HF_HUB_CACHE, or a folder in HF_HOME, by default.
        report: called from another thread with a line of text every 20 s.

    Returns:
        The snapshot's folder in the cache.

    Raises:
        CheckpointError: the repository does not exist or access is denied, or the hub cannot be
            reached and the cache lacks the repository.
    """
    blobs = _blobs(repo_id, cache_dir)
    _remove_abandoned_parts(blobs)
    configs = [_file_in(folder, "config.json") for folder in folders]
    with _progress(repo_id, blobs, report):
        root = _snapshot(repo_id, [*_PIPELINE_FILES, *configs], None, endpoint, cache_dir)
        for names in _FORMATS:
            incomplete = [folder for folder in folders if _lacks_weights(root / folder)]
            if incomplete:
                patterns = [_file_in(folder, name) for folder in incomplete for name in names]
                root = _snapshot(repo_id, patterns, root.name, endpoint, cache_dir)
    return root


def _blobs(repo_id: str, cache_dir: Path | None) -> Path:
    """Where the cache has a repository's files, whole ones and parts."""
    folder = "models--" + repo_id.replace("/", "--")
    return Path(cache_dir or constants.HF_HUB_CACHE) / folder / "blobs"


def _remove_abandoned_parts(blobs: Path) -> None:
    """huggingface_hub never resumes or removes what a killed process had downloaded of a file."""
    for part in blobs.glob("*.incomplete"):
        with suppress(OSError):  # another start removed it, or the cache is read-only
            if time.time() - part.stat().st_mtime > _ABANDONED_S:
                part.unlink()


@contextmanager
def _progress(repo_id: str, blobs: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Report during the block, now and then, how much has been downloaded in it."""
    ended, before = threading.Event(), _nbytes(blobs)

    def watch() -> None:
        while not ended.wait(_PROGRESS_S):
            report(f"{repo_id}: downloaded {(_nbytes(blobs) - before) / 1e6:.0f} MB so far")

    thread = threading.Thread(target=watch, name="download progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _nbytes(folder: Path) -> int:
    total = 0
    for path in folder.glob("*"):
        with suppress(OSError):  # a part that has become a whole file meanwhile
            total += path.stat().st_size
    return total


def _lacks_weights(folder: Path) -> bool:
    has_config = (folder / "config.json").is_file()
    return has_config and not any((folder / name).is_file() for name in FILE_NAMES)


def _file_in(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder}/{name}"


def _snapshot(
    repo_id: str,
    patterns: list[str],
    revision: str | None,
    endpoint: str | None,
    cache_dir: Path | None,
) -> Path:
    try:
        folder = snapshot_download(
            repo_id,
            revision=revision,
            allow_patterns=patterns,
            endpoint=endpoint,
            cache_dir=cache_dir,
        )
    except GatedRepoError as error:
        problem = "is gated: accept its terms on the hub and set HF_TOKEN"
        raise CheckpointError(repo_id, problem) from error
    except RepositoryNotFoundError as error:
        problem = "is neither a local folder nor on the hub (if it is private, set HF_TOKEN)"
        raise CheckpointError(repo_id, problem) from error
    except LocalEntryNotFoundError as error:
        problem = "is not in the cache, and the hub cannot be reached"
        raise CheckpointError(repo_id, problem) from error
    except Exception as error:  # the HTTP client's exceptions differ between library versions
        raise CheckpointError(repo_id, f"download failed: {first_line(error)}") from error
    return Path(folder)
