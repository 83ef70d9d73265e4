"""The model hub: downloading parts of a repository through huggingface_hub and its cache."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import snapshot_download
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


def is_hub_id(source: str) -> bool:
    """Whether the text has the form of a repository's name, owner/name."""
    return _HUB_ID.fullmatch(source) is not None


def download(
    repo_id: str,
    folders: tuple[str, ...],
    *,
    endpoint: str | None = None,
    cache_dir: Path | None = None,
) -> Path:
    """Download the configs and weights of some folders of a repository, and its model card.

    Each folder's weights come in one format only: safetensors, else .bin, else the fp16 variant.
    Cached files are not downloaded again, and are used if the hub cannot be reached.

    Args:
        repo_id: owner/name.
        folders: for example "transformer" and "vae"; "." is the repository's root.
        endpoint: the hub's address; HF_ENDPOINT by default.
        cache_dir: HF_HUB_CACHE, or a folder in HF_HOME, by default.

    Returns:
        The snapshot's folder in the cache.

    Raises:
        CheckpointError: the repository does not exist or access is denied, or the hub cannot be
            reached and the cache lacks the repository.
    """
    configs = [_file_in(folder, "config.json") for folder in folders]
    root = _snapshot(repo_id, [*_PIPELINE_FILES, *configs], None, endpoint, cache_dir)
    for names in _FORMATS:
        incomplete = [folder for folder in folders if _lacks_weights(root / folder)]
        if incomplete:
            patterns = [_file_in(folder, name) for folder in incomplete for name in names]
            root = _snapshot(repo_id, patterns, root.name, endpoint, cache_dir)
    return root


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
