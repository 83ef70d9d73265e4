"""Class names: the names of each class id, from a file or from ImageNet.

The ImageNet-1k names that we ship are WordNet's words for its synsets and their ids, in label order.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from pathlib import Path

from model.weights.config_files import read_json
from model.weights.errors import CheckpointError

ClassNames = tuple[tuple[str, ...], ...]
"""By class id: the name, then its synonyms."""

MAX_NAME_LENGTH = 200
"""Of one name, in characters: as long as a request may write it."""

_IMAGENET_FILE = Path(__file__).parents[1] / "data" / "imagenet.json"
_IMAGENET_CLASSES = 1000
_NOT_JSON = (".txt", ".csv", ".tsv", ".yaml", ".yml")
_WORDNET_ID = re.compile("n[0-9]{8}")


def is_wordnet_id(name: str) -> bool:
    """Whether a name is the id of a synset of nouns, such as n02099601."""
    return _WORDNET_ID.fullmatch(name) is not None


def has_names(num_classes: int) -> bool:
    """Whether `default_class_names` gives names, rather than numbers."""
    return num_classes == _IMAGENET_CLASSES


def default_class_names(num_classes: int) -> ClassNames:
    """ImageNet's names for 1000 classes, else "class 0", "class 1", ..."""
    if has_names(num_classes):
        return read_class_names(_IMAGENET_FILE)
    return tuple((f"class {i}",) for i in range(num_classes))


def read_class_names(path: Path) -> ClassNames:
    """Read a JSON file of class names.

    It holds a list indexed by class id, an object from id to names, or an object from name to id,
    such as ImageFolder's class_to_idx; an object may also be the id2label of a config.json. The names of a class are a list of strings, or one string,
    whose parts between commas are its name and synonyms. If the first part is the first part of
    another class too ("Pepper, red" and "Pepper, green"), the whole string is the name, and its
    parts are synonyms.

    Raises:
        CheckpointError: the file holds none of these, or its ids are not 0, 1, 2, ...
    """
    if path.suffix.lower() in _NOT_JSON:
        problem = "must be JSON: a list of names, or an object from class id to name"
        raise CheckpointError(path, problem)
    return parse_class_names(read_json(path), path)


def parse_class_names(content: object, path: Path) -> ClassNames:
    """Parse the same content from JSON that was already read; errors name ``path``."""
    content = _inner(content)
    if isinstance(content, list):
        by_id = {i: [entry] for i, entry in enumerate(content)}
    elif not isinstance(content, dict):
        raise CheckpointError(path, "class names must be a list or an object")
    elif _maps_ids(content):
        by_id = _by_id(content, path)
    else:
        by_id = _group_by_id(content, path)
    gap = next((i for i in range(len(by_id) + (not by_id)) if i not in by_id), None)
    if gap is not None:
        problem = f"class ids must be 0, 1, 2, ... without a gap, but {gap} is missing"
        raise CheckpointError(path, problem)
    entries = [_names(by_id[i], path) for i in range(len(by_id))]
    shared = Counter(names[0] for names in entries)
    return tuple(_named(by_id[i], names, shared) for i, names in enumerate(entries))


def _inner(content: object) -> object:
    """The names in an object around them, such as a classifier's config.json, else the same content."""
    if not isinstance(content, dict):
        return content
    only = [key for key in content if len(content) == 1 and not _is_id(key)]
    for key in ("id2label", "label2id", *only):
        if isinstance(content.get(key), dict | list):
            return content[key]
    return content


def _maps_ids(content: dict[str, object]) -> bool:
    """Whether an object maps ids to names; if not, it maps names, which may be digits, to ids."""
    if not all(_is_id(key) for key in content):
        return False
    if all(isinstance(value, int) for value in content.values()):
        return False
    ids = {int(key[:9]) for key in content}
    swapped = all(isinstance(value, str) and _is_id(value) for value in content.values())
    return not swapped or ids == set(range(len(content)))


def _is_id(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isdecimal()


def _by_id(content: dict[str, object], path: Path) -> dict[int, list[object]]:
    by_id: dict[int, list[object]] = {}
    spelling: dict[int, str] = {}
    for key, entry in content.items():
        class_id = int(key[:9])
        if class_id in by_id:
            problem = f"{spelling[class_id][:20]!r} and {key[:20]!r} are the same class id"
            raise CheckpointError(path, problem)
        by_id[class_id], spelling[class_id] = [entry], key
    return by_id


def _group_by_id(content: dict[str, object], path: Path) -> dict[int, list[object]]:
    """Turn an object from name to id into one from id to names."""
    by_id: dict[int, list[object]] = {}
    for name, value in content.items():
        class_id = int(value[:9]) if isinstance(value, str) and _is_id(value) else value
        if isinstance(class_id, float) and class_id.is_integer():
            class_id = int(class_id)
        if not isinstance(class_id, int) or isinstance(class_id, bool):
            problem = f"{name[:60]!r} must map to a class id, a whole number"
            raise CheckpointError(path, problem)
        by_id.setdefault(class_id, []).append(name)
    return by_id


def _names(entries: list[object], path: Path) -> list[str]:
    """The name and the synonyms that the entries of one class hold."""
    names: list[object] = []
    for entry in entries:
        names += entry.split(",") if isinstance(entry, str) else _list(entry, path)
    stripped = [name.strip() for name in names if isinstance(name, str) and name.strip()]
    if not stripped:
        raise CheckpointError(path, "a class has no name")
    for name in stripped:
        _check_name(name, path)
    stripped.sort(key=is_wordnet_id)  # ids go last
    return [*dict.fromkeys(unicodedata.normalize("NFC", name) for name in stripped)]


def _check_name(name: str, path: Path) -> None:
    categories = {unicodedata.category(letter) for letter in name}
    if "Cs" in categories:
        raise CheckpointError(path, f"{ascii(name)[:60]} is not valid Unicode")
    if "Cc" in categories:
        raise CheckpointError(path, f"{ascii(name)[:60]} has a control character")
    if len(name) > MAX_NAME_LENGTH:
        problem = f"{name[:40]!r}... has {len(name)} characters, but may have {MAX_NAME_LENGTH}"
        raise CheckpointError(path, problem)


def _list(entry: object, path: Path) -> list[object]:
    if not isinstance(entry, list) or not all(isinstance(name, str) for name in entry):
        problem = f"the names of a class must be a string or a list of strings, not {entry!r:.60}"
        raise CheckpointError(path, problem)
    return entry


def _named(entries: list[object], names: list[str], shared: Counter[str]) -> tuple[str, ...]:
    """The names, or the whole first string before them if its first part names several classes."""
    first = entries[0]
    if shared[names[0]] == 1 or not isinstance(first, str) or "," not in first:
        return tuple(names)
    whole = ", ".join(part.strip() for part in first.split(",") if part.strip())
    return tuple(dict.fromkeys([unicodedata.normalize("NFC", whole), *names]))
