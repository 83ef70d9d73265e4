"""The hub: a repository's files, downloaded once and kept by huggingface_hub."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from model.weights.errors import CheckpointError, reason
from model.weights.files import WEIGHT_FILES

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_CARDS = ("model_index.json", "README.md", "scheduler/scheduler_config.json")
_SAFETENSORS = (*WEIGHT_FILES[:2], "diffusion_pytorch_model-?????-of-?????.safetensors")
_BIN = (*WEIGHT_FILES[2:4], "diffusion_pytorch_model-?????-of-?????.bin")
_PREFERENCE = (_SAFETENSORS, _BIN, WEIGHT_FILES[4:])


def is_hub_id(source: str) -> bool:
    """Whether it is spelled as a repository's name: owner/name."""
    return _HUB_ID.fullmatch(source) is not None


def download(
    repo_id: str,
    folders: tuple[str, ...],
    *,
    endpoint: str | None = None,
    cache_dir: Path | None = None,
) -> Path:
    """Bring the cards, configs and weights of some of a repository's folders onto this machine.

    A folder's weights come in one format only: safetensors, else .bin, else the fp16 variant. What
    is in the cache is not asked for again, and is used when the hub cannot be reached.

    Args:
        repo_id: owner/name.
        folders: such as "transformer" and "vae"; "." is the repository's root.
        endpoint: the hub's address; by default what HF_ENDPOINT says.
        cache_dir: by default what HF_HUB_CACHE or HF_HOME says.

    Returns:
        The snapshot's folder.

    Raises:
        CheckpointError: the repository does not exist or is closed, or the hub is out of reach.
    """
    configs = [_path(folder, "config.json") for folder in folders]
    root = _snapshot(repo_id, [*_CARDS, *configs], None, endpoint, cache_dir)
    for names in _PREFERENCE:
        lacking = [folder for folder in folders if _lacks_weights(root / folder)]
        if lacking:
            patterns = [_path(folder, name) for folder in lacking for name in names]
            root = _snapshot(repo_id, patterns, root.name, endpoint, cache_dir)
    return root


def _lacks_weights(folder: Path) -> bool:
    has_config = (folder / "config.json").is_file()
    return has_config and not any((folder / name).is_file() for name in WEIGHT_FILES)


def _path(folder: str, name: str) -> str:
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
        what = "is gated: accept its terms on the hub and set HF_TOKEN"
        raise CheckpointError(repo_id, what) from error
    except RepositoryNotFoundError as error:
        what = "neither a folder here nor a repository on the hub (or it is private: set HF_TOKEN)"
        raise CheckpointError(repo_id, what) from error
    except LocalEntryNotFoundError as error:
        what = "the hub cannot be reached and nothing of it is in the cache"
        raise CheckpointError(repo_id, what) from error
    except Exception as error:  # the library's HTTP client differs between its versions
        raise CheckpointError(repo_id, f"download failed: {reason(error)}") from error
    return Path(folder)
