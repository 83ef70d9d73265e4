"""Class names: the names of each class id, from a file or from ImageNet.

The ImageNet-1k names that we ship are WordNet's words for its synsets, in label order.
"""

from __future__ import annotations

from pathlib import Path

from model.weights.config_files import read_json
from model.weights.errors import CheckpointError

ClassNames = tuple[tuple[str, ...], ...]
"""By class id: the name, then its synonyms."""

_IMAGENET_FILE = Path(__file__).parents[1] / "data" / "imagenet.json"
_IMAGENET_CLASSES = 1000


def default_class_names(num_classes: int) -> ClassNames:
    """ImageNet's names for 1000 classes, else "class 0", "class 1", ..."""
    if num_classes == _IMAGENET_CLASSES:
        return read_class_names(_IMAGENET_FILE)
    return tuple((f"class {i}",) for i in range(num_classes))


def read_class_names(path: Path) -> ClassNames:
    """Read a JSON file of class names.

    It holds a list indexed by class id, an object from id to names, or an object from name to id.
    The names of a class are a list of strings, or one string with commas between the names.

    Raises:
        CheckpointError: the file holds none of these, or its ids are not 0, 1, 2, ...
    """
    return parse_class_names(read_json(path), path)


def parse_class_names(content: object, path: Path) -> ClassNames:
    """Parse the same content from JSON that was already read; errors name ``path``."""
    if isinstance(content, list):
        by_id: dict[int, list[str]] = {i: _names(entry, path) for i, entry in enumerate(content)}
    elif not isinstance(content, dict):
        raise CheckpointError(path, "class names must be a list or an object")
    elif all(key.isdecimal() and key.isascii() for key in content):
        by_id = {int(key[:9]): _names(entry, path) for key, entry in content.items()}
    else:
        by_id = _group_by_id(content, path)
    if not by_id or sorted(by_id) != list(range(len(by_id))):
        raise CheckpointError(path, "class ids must be 0, 1, 2, ... without a gap")
    return tuple(tuple(by_id[i]) for i in range(len(by_id)))


def _names(entry: object, path: Path) -> list[str]:
    names = entry.split(",") if isinstance(entry, str) else entry
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        problem = f"the names of a class must be a string or a list of strings, not {entry!r:.60}"
        raise CheckpointError(path, problem)
    stripped = [name.strip() for name in names if name.strip()]
    if not stripped:
        raise CheckpointError(path, "a class has no name")
    if any("\ud800" <= letter <= "\udfff" for name in stripped for letter in name):
        raise CheckpointError(path, f"{ascii(stripped[0])[:60]} is not valid Unicode")
    return list(dict.fromkeys(stripped))


def _group_by_id(content: dict[str, object], path: Path) -> dict[int, list[str]]:
    """Turn an object from name to id into one from id to names."""
    by_id: dict[int, list[str]] = {}
    for name, class_id in content.items():
        if not isinstance(class_id, int) or isinstance(class_id, bool):
            problem = f"{name[:60]!r} must map to a class id, a whole number"
            raise CheckpointError(path, problem)
        by_id.setdefault(class_id, []).extend(_names(name, path))
    return by_id
