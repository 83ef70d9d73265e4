"""Class names from every form of file, and ImageNet's."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.weights.class_names import default_class_names, read_class_names
from model.weights.errors import CheckpointError
from tests.support.checkpoints import write_json

PETS = (("cat", "house cat"), ("dog",), ("newt",))


@pytest.mark.parametrize(
    "content",
    [
        ["cat, house cat", "dog", "newt"],
        [["cat", "house cat"], ["dog"], "newt"],
        {"0": "cat, house cat", "1": "dog", "2": "newt"},
        {"2": ["newt"], "0": ["cat", "house cat"], "1": ["dog"]},
        {"cat": 0, "dog": 1, "house cat": 0, "newt": 2},
        {"newt": 2, "cat, house cat": 0, "dog": 1},
        {"0": [" cat", "house cat ", "cat", ""], "1": "dog,", "2": "newt"},
    ],
)
def test_every_form_of_file_gives_the_same_names(content: object, tmp_path: Path) -> None:
    assert read_class_names(write_json(tmp_path / "classes.json", content)) == PETS


def test_digits_are_ids_only_if_every_key_is_digits(tmp_path: Path) -> None:
    path = write_json(tmp_path / "classes.json", {"7": 0, "eight": 1})
    assert read_class_names(path) == (("7",), ("eight",))


def test_only_ascii_digits_are_ids(tmp_path: Path) -> None:
    path = write_json(tmp_path / "classes.json", {"\u0660": 0, "\u0661": 1})
    assert read_class_names(path) == (("\u0660",), ("\u0661",))


@pytest.mark.parametrize("content", [[], {}])
def test_no_class_at_all_is_an_error(content: object, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"0, 1, 2, \.\.\. without a gap"):
        read_class_names(write_json(tmp_path / "classes.json", content))


def test_names_keep_their_script(tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    path.write_text('["Äpfel", "柿", "\\u00f1ame"]', encoding="utf-8")
    assert read_class_names(path) == (("Äpfel",), ("柿",), ("ñame",))


def test_imagenet_names_are_in_label_order() -> None:
    names = default_class_names(1000)
    assert len(names) == 1000
    assert names[0] == ("tench", "Tinca tinca")
    assert names[1] == ("goldfish", "Carassius auratus")
    assert names[88] == ("macaw",)
    assert names[207] == ("golden retriever",)
    assert names[279] == ("Arctic fox", "white fox", "Alopex lagopus")
    assert names[360] == ("otter",)
    assert "red panda" in names[387]
    assert names[417] == ("balloon",)
    assert names[974] == ("geyser",)
    assert names[979] == ("valley", "vale")
    assert names[980] == ("volcano",)
    assert names[999] == ("toilet tissue", "toilet paper", "bathroom tissue")


def test_two_pairs_of_imagenet_classes_share_a_name() -> None:
    names = default_class_names(1000)
    assert names[134] == names[517] == ("crane",)
    assert names[638][0] == names[639][0] == "maillot"
    assert len({of_class[0] for of_class in names}) == 998


def test_classes_of_other_models_are_numbered() -> None:
    assert default_class_names(3) == (("class 0",), ("class 1",), ("class 2",))


@pytest.mark.parametrize("content", [["cat", "\ud800"], ["cat", ["dog", "\udfff"]]])
def test_half_a_surrogate_pair_is_refused(content: object, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not valid Unicode"):
        read_class_names(write_json(tmp_path / "classes.json", content))
