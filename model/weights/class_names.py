"""Class names: what each class id is called, from whichever file says so.

The shipped names of ImageNet-1k's classes are WordNet's words for its synsets, in label order.
"""

from __future__ import annotations

from pathlib import Path

from model.weights.config_files import read_json
from model.weights.errors import CheckpointError

ClassNames = tuple[tuple[str, ...], ...]
"""By class id: the name, then its synonyms."""

_IMAGENET = Path(__file__).parents[1] / "data" / "imagenet.json"
_IMAGENET_CLASSES = 1000


def default_class_names(num_classes: int) -> ClassNames:
    """ImageNet's names for 1000 classes, else "class 0", "class 1", ..."""
    if num_classes == _IMAGENET_CLASSES:
        return read_class_names(_IMAGENET)
    return tuple((f"class {i}",) for i in range(num_classes))


def read_class_names(path: Path) -> ClassNames:
    """Read a JSON file of class names.

    It holds a list by id or a map from id, whose values are a string of names parted by commas or
    a list of names; or a map from name to id.

    Raises:
        CheckpointError: the file is none of these, or its ids are not 0, 1, 2, ...
    """
    return class_names(read_json(path), path)


def class_names(content: object, place: Path) -> ClassNames:
    """The same from parsed JSON; ``place`` is the file to blame."""
    if isinstance(content, list):
        by_id: dict[int, list[str]] = {i: _names(entry, place) for i, entry in enumerate(content)}
    elif not isinstance(content, dict):
        raise CheckpointError(place, "class names must be a list or a map")
    elif all(key.isdecimal() and key.isascii() for key in content):
        by_id = {int(key[:9]): _names(entry, place) for key, entry in content.items()}
    else:
        by_id = _inverted(content, place)
    if not by_id or sorted(by_id) != list(range(len(by_id))):
        raise CheckpointError(place, "class ids must be 0, 1, 2, ... without a gap")
    return tuple(tuple(by_id[i]) for i in range(len(by_id)))


def _names(entry: object, place: Path) -> list[str]:
    names = entry.split(",") if isinstance(entry, str) else entry
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(place, f"{str(entry)[:60]!r} must be a name or a list of names")
    stripped = [name.strip() for name in names if name.strip()]
    if not stripped:
        raise CheckpointError(place, "a class has no name")
    if any("\ud800" <= letter <= "\udfff" for name in stripped for letter in name):
        raise CheckpointError(place, f"{ascii(stripped[0])[:60]} is no Unicode text")
    return list(dict.fromkeys(stripped))


def _inverted(content: dict[str, object], place: Path) -> dict[int, list[str]]:
    by_id: dict[int, list[str]] = {}
    for name, class_id in content.items():
        if not isinstance(class_id, int) or isinstance(class_id, bool):
            raise CheckpointError(place, f"{name[:60]!r} must map to a class id")
        by_id.setdefault(class_id, []).extend(_names(name, place))
    return by_id
