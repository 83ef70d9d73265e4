"""The model hub: downloading parts of a repository through huggingface_hub and its cache."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as Unfinished
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import LocalEntryNotFoundError

from model.weights.errors import CheckpointError
from model.weights.hub.client import (
    NOT_CACHED,
    Present,
    Stalled,
    ask_commit,
    in_thread,
    is_final,
    limit_requests,
    problem_with,
)
from model.weights.hub.files import PIPELINE_FILES, file_in, is_whole, weights_in

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)

_ABANDONED_S = 600.0
"""A part of a file that was written to this long ago is of a process that was killed."""

_PROGRESS_S = 20.0
"""How often a download is reported; the library's own bars are for terminals."""

_PAUSES_S = (1.0, 3.0)
"""Between the tries of a first download."""

_ANSWER_S, _FIRST_ANSWER_S = 5.0, 20.0
"""How long the hub may take to name a revision's commit: if the cache has one, and if it has none."""

_UPDATE_WINDOW_S, _UPDATE_BYTES = 10.0, 1 << 20
"""A newer commit has to arrive at this speed, or the cached one is used."""

_STALL_S = 300.0
"""A first download may be slow, but not without any byte for so long."""


def is_hub_id(source: str) -> bool:
    """Whether the text has the form of a repository's name, owner/name."""
    return _HUB_ID.fullmatch(source) is not None


def cached_nbytes(repo_id: str) -> int:
    """What the cache has of a repository, in bytes, with the parts of files that still arrive."""
    wanted = _Wanted(repo_id, (), None, None, None, lambda line: None)
    return _nbytes(wanted.storage / "blobs")


def download(
    repo_id: str,
    folders: tuple[str, ...],
    *,
    revision: str | None = None,
    endpoint: str | None = None,
    cache_dir: Path | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Path:
    """Download the configs and weights of some folders of a repository, and its model card.

    Each folder's weights come in one format only: safetensors, else .bin, else a variant's.
    Cached files are not downloaded again. A repository that the cache has whole is used as it is
    whenever the hub does not say within seconds that there is a newer commit, or that one does not
    arrive; a cached commit that is asked for by its hash needs no hub.

    Args:
        repo_id: owner/name.
        folders: for example "transformer" and "vae"; "." is the repository's root.
        revision: a branch, tag or commit; the main branch by default.
        endpoint: the hub's address; HF_ENDPOINT by default.
        cache_dir: HF_HUB_CACHE, or a folder in HF_HOME, by default.
        report: called with a line of text for each try that fails and, from another thread, about
            the progress every 20 s.

    Returns:
        The snapshot's folder in the cache.

    Raises:
        CheckpointError: the repository does not exist or access is denied, or the hub cannot be
            reached and the cache lacks the repository.
    """
    limit_requests()
    wanted = _Wanted(repo_id, folders, revision, endpoint, cache_dir, report)
    cached = wanted.cached()
    if cached is not None and cached.name == revision:
        return cached
    try:
        return wanted.fetch_newer(cached) if cached is not None else wanted.fetch()
    except Exception as error:  # the HTTP client's exceptions differ between library versions
        problem = problem_with(error, revision)
        if cached is None:
            raise CheckpointError(repo_id, problem) from error
        why = problem.removeprefix(NOT_CACHED)
        report(f"{repo_id}: {why}; using what the cache has of it")
        return cached


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What to download, from where and to where; as the arguments of `download`."""

    repo_id: str
    folders: tuple[str, ...]
    revision: str | None
    endpoint: str | None
    cache_dir: Path | None
    report: Callable[[str], None]

    @property
    def storage(self) -> Path:
        """The repository's folder in the cache."""
        name = "models--" + self.repo_id.replace("/", "--")
        return Path(self.cache_dir or constants.HF_HUB_CACHE) / name

    def cached(self) -> Path | None:
        """The snapshot of the revision in the cache, if it is whole."""
        if not self.storage.is_dir():
            return None
        for name in ("model_index.json", *self.configs()):
            found = try_to_load_from_cache(
                self.repo_id, name, cache_dir=self.cache_dir, revision=self.revision
            )
            if isinstance(found, str):
                root = Path(found).parents[name.count("/")]
                return root if is_whole(root, self.folders) else None
        return None

    def fetch_newer(self, cached: Path) -> Path:
        """The present commit, at one try, if the hub names another one than is cached."""
        present = ask_commit(self.repo_id, self.revision, self.endpoint, timeout_s=_ANSWER_S)
        if present.commit == cached.name:
            return cached
        self.report(f"{self.repo_id}: the hub has a newer commit, {present.commit}")
        return self.supervised(present, window_s=_UPDATE_WINDOW_S, at_least=_UPDATE_BYTES)

    def fetch(self) -> Path:
        """The present commit, at a few tries."""
        tries = len(_PAUSES_S) + 1
        for number, pause_s in enumerate(_PAUSES_S, 1):
            try:
                return self.fetch_once()
            except Exception as error:
                if is_final(error):
                    raise
                why = problem_with(error, self.revision).removeprefix(NOT_CACHED)
                line = f"try {number} of {tries}: {why}; the next one in {pause_s:.0f} s"
                self.report(f"{self.repo_id}: {line}")
                time.sleep(pause_s)
        return self.fetch_once()

    def fetch_once(self) -> Path:
        present = ask_commit(self.repo_id, self.revision, self.endpoint, timeout_s=_FIRST_ANSWER_S)
        return self.supervised(present, window_s=_STALL_S, at_least=1)

    def supervised(self, present: Present, *, window_s: float, at_least: int) -> Path:
        """Download a commit in another thread; give up if too few bytes arrive in a window.

        Raises:
            Stalled: they did.
            Exception: any of huggingface_hub's.
        """
        _remove_abandoned_parts(self.storage / "blobs")
        with _progress(self.repo_id, self.storage / "blobs", self.report):
            work = in_thread(lambda: self.fetch_commit(present))
            before = _nbytes(self.storage)
            while True:
                with suppress(Unfinished):
                    root = work.outcome.result(window_s)
                    _remember(self.storage / "refs" / (self.revision or "main"), present.commit)
                    return root
                now = _nbytes(self.storage)
                if now - before < at_least:
                    work.abandoned.set()
                    raise Stalled
                before = now

    def fetch_commit(self, present: Present) -> Path:
        root = self.snapshot(present.commit, [*PIPELINE_FILES, *self.configs()])
        weights = [
            file_in(folder, name)
            for folder in self.folders
            if file_in(folder, "config.json") in present.files
            for name in weights_in(folder, present.files)
        ]
        return self.snapshot(present.commit, weights) if weights else root

    def snapshot(self, commit: str, patterns: list[str]) -> Path:
        try:
            folder = snapshot_download(
                self.repo_id,
                revision=commit,
                allow_patterns=patterns,
                endpoint=self.endpoint,
                cache_dir=self.cache_dir,
            )
        except LocalEntryNotFoundError as error:
            raise error.__cause__ or error from None  # what kept it from the hub
        return Path(folder)

    def configs(self) -> list[str]:
        return [file_in(folder, "config.json") for folder in self.folders]


def _remember(ref: Path, commit: str) -> None:
    """Note in the cache, as huggingface_hub does, which commit a branch or tag stands for."""
    if ref.name == commit:
        return
    part = ref.with_name(f"{ref.name}.{os.getpid()}")
    with suppress(OSError):  # a cache that may only be read
        ref.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(commit)
        part.replace(ref)


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
    for path in folder.rglob("*"):
        with suppress(OSError):  # a part that has become a whole file meanwhile
            total += path.lstat().st_size
    return total
