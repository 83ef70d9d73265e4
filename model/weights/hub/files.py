"""The files of a repository on the hub: which ones make up a model."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import Path

from model.weights.errors import CheckpointError
from model.weights.weight_files import STEM, VARIANTS, WeightFiles

_NEEDED_FILES = ("model_index.json", "scheduler/scheduler_config.json")
PIPELINE_FILES = (*_NEEDED_FILES, "README.md", "scheduler/fitted_solvers.json")
_PLAIN = ("{stem}.{kind}", "{stem}.{kind}.index.json", "{stem}-?????-of-?????.{kind}")
_VARIANT = (
    "{stem}.{variant}.{kind}",
    "{stem}.{variant}.{kind}.index.json",
    "{stem}.{kind}.index.{variant}.json",
    "{stem}.{variant}-?????-of-?????.{kind}",
    "{stem}-?????-of-?????.{variant}.{kind}",
)
_FORMATS = [
    [form.format(stem=STEM, variant=variant, kind=kind) for form in forms]
    for variant, forms in (("", _PLAIN), *((each, _VARIANT) for each in (*VARIANTS, "*")))
    for kind in ("safetensors", "bin")
]
"""Patterns of the names of a network's weights, in order of preference."""


def is_whole(root: Path, folders: tuple[str, ...]) -> bool:
    """Whether a snapshot has all that `download` would bring for these folders."""
    named = _named_parts(root / "model_index.json")
    if "." not in folders and not all((root / file).is_file() for file in _NEEDED_FILES):
        return False
    parts = [folder for folder in folders if (root / folder / "config.json").is_file()]
    if not parts or not named & set(folders) <= set(parts):
        return False
    return not any(_lacks_weights(root / folder) for folder in parts)


def weights_in(folder: str, files: frozenset[str]) -> list[str]:
    """The names of a folder's weights, in the most preferred of the formats it has."""
    names = [
        file.rpartition("/")[2] for file in files if (file.rpartition("/")[0] or ".") == folder
    ]
    for patterns in _FORMATS:
        found = [name for name in names if any(fnmatchcase(name, each) for each in patterns)]
        if any("-of-" not in name for name in found):  # more than shards without their index
            return found
    return []


def file_in(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder}/{name}"


def _named_parts(model_index: Path) -> set[str]:
    """The folders of a pipeline, among other names; none if there is no model_index.json."""
    try:
        fields = json.loads(model_index.read_bytes())
    except (OSError, ValueError):
        return set()
    return set(fields) if isinstance(fields, dict) else set()


def _lacks_weights(folder: Path) -> bool:
    """Whether a folder has a config.json, but not the weights to go with it."""
    if not (folder / "config.json").is_file():
        return False
    try:
        return not all(path.is_file() for path in WeightFiles.in_folder(folder).files)
    except CheckpointError:
        return True
