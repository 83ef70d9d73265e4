"""Class names from every form of file, and ImageNet's."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.weights.class_names import ClassNames, default_class_names, read_class_names
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


def without_ids(names: ClassNames) -> ClassNames:
    return tuple(own[:-1] for own in names)


def test_imagenet_names_are_in_label_order() -> None:
    names = without_ids(default_class_names(1000))
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
    names = without_ids(default_class_names(1000))
    assert names[134] == names[517] == ("crane",)
    assert names[638][0] == names[639][0] == "maillot"
    assert len({of_class[0] for of_class in names}) == 998


def test_classes_of_other_models_are_numbered() -> None:
    assert default_class_names(3) == (("class 0",), ("class 1",), ("class 2",))


@pytest.mark.parametrize("content", [["cat", "\ud800"], ["cat", ["dog", "\udfff"]]])
def test_half_a_surrogate_pair_is_refused(content: object, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not valid Unicode"):
        read_class_names(write_json(tmp_path / "classes.json", content))


SHAPES = ("Pepper, red", "Pepper, green", "Apple, Malus", "plum")
NAMED = (
    ("Pepper, red", "Pepper", "red"),
    ("Pepper, green", "Pepper", "green"),
    ("Apple", "Malus"),
    ("plum",),
)


@pytest.mark.parametrize(
    "content",
    [
        [*SHAPES],
        ["Pepper,red", " Pepper , green,", "Apple,Malus", "plum"],
        {str(i): name for i, name in enumerate(SHAPES)},
        {name: i for i, name in enumerate(SHAPES)},
        {name: str(i) for i, name in enumerate(SHAPES)},
    ],
)
def test_an_entry_is_one_name_if_its_first_part_names_several_classes(
    content: object, tmp_path: Path
) -> None:
    assert read_class_names(write_json(tmp_path / "classes.json", content)) == NAMED


def test_a_name_in_a_list_of_names_may_have_commas(tmp_path: Path) -> None:
    path = write_json(tmp_path / "classes.json", [["Pepper, red", "capsicum"], ["Pepper, green"]])
    assert read_class_names(path) == (("Pepper, red", "capsicum"), ("Pepper, green",))


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"0": 0, "1": 1, "10": 2, "11": 3, "2": 4}, ["0", "1", "10", "11", "2"]),  # ImageFolder's
        ({"0": 2, "1": 0, "2": 1}, ["1", "2", "0"]),
        ({"00": 0, "01": 1}, ["00", "01"]),
        ({"2024": 0, "2025": 1}, ["2024", "2025"]),
        ({"10": "0", "20": "1"}, ["10", "20"]),
        ({"0": "5", "1": "3"}, ["5", "3"]),
        ({"0": "0", "1": "1"}, ["0", "1"]),
        ({"1": "9", "0": ["8"]}, ["8", "9"]),
        ({"cat": "1", "dog": "0"}, ["dog", "cat"]),
        ({"cat": "01", "dog": "00"}, ["dog", "cat"]),
    ],
)
def test_digits_are_names_or_ids(
    content: dict[str, object], names: list[str], tmp_path: Path
) -> None:
    found = read_class_names(write_json(tmp_path / "classes.json", content))
    assert [of_class[0] for of_class in found] == names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"0": "a", "00": "b"}', "'0' and '00' are the same class id"),
        ('{"0": "a", "1": "b", "01": ["c"]}', "'1' and '01' are the same class id"),
        ('{"0": "a", "0": "b"}', "has the key '0' twice"),
        ('{"cat": 0, "cat": 1}', "has the key 'cat' twice"),
        ('{"1": "a", "2": "b"}', "but 0 is missing"),
        ('{"a": 0, "b": 2}', "but 1 is missing"),
        ('{"a": 0.5}', "'a' must map to a class id"),
        ('{"a": "x"}', "'a' must map to a class id"),
    ],
)
def test_ids_that_are_given_twice_or_missing_are_named(
    text: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "classes.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"classes\.json: ") as caught:
        read_class_names(path)
    assert said in str(caught.value)


def test_names_are_normalised_also_where_they_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    path.write_text('\ufeff["A\\u0308pfel", "Cre\u0300me"]', encoding="utf-8")
    assert read_class_names(path) == (("Äpfel",), ("Crème",))


@pytest.mark.parametrize(
    "content",
    [
        {"0": ["n02121808", "cat"], "1": ["n02084071", "dog"]},  # imagenet_class_index.json
        {"model_type": "vit", "id2label": {"0": "cat", "1": "dog"}, "label2id": {"cat": 0}},
        {"label2id": {"cat": 0, "dog": 1}},
        {"cat": 0.0, "dog": 1.0},
        {"class_to_idx": {"cat": 0, "dog": 1}},
        {"names": ["cat", "dog"]},
    ],
)
def test_forms_of_other_libraries_are_read(content: object, tmp_path: Path) -> None:
    names = read_class_names(write_json(tmp_path / "classes.json", content))
    assert [of_class[0] for of_class in names] == ["cat", "dog"]


def test_one_class_may_have_a_list_of_names(tmp_path: Path) -> None:
    path = write_json(tmp_path / "classes.json", {"0": ["cat", "house cat"]})
    assert read_class_names(path) == (("cat", "house cat"),)


def test_a_wordnet_id_is_a_name_only_where_there_is_no_other(tmp_path: Path) -> None:
    path = write_json(tmp_path / "classes.json", [["n02121808", "cat", "house cat"], "n02084071"])
    assert read_class_names(path) == (("cat", "house cat", "n02121808"), ("n02084071",))


@pytest.mark.parametrize("ending", ["txt", "csv", "yaml", "TXT"])
def test_a_file_that_is_not_json_says_what_it_must_be(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"names.{ending}"
    path.write_text("cat\ndog\n")
    with pytest.raises(CheckpointError, match="must be JSON: a list of names"):
        read_class_names(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x" * 201, "has 201 characters, but may have 200"),
        ("a\x1b[31mb", "has a control character"),
        ("a\nb", "has a control character"),
        ("a\x85b", "has a control character"),
    ],
)
def test_a_name_that_nobody_can_ask_for_is_refused(name: str, said: str, tmp_path: Path) -> None:
    path = write_json(tmp_path / "classes.json", ["cat", ["dog", name]])
    with pytest.raises(CheckpointError, match=said):
        read_class_names(path)
    path = write_json(tmp_path / "classes.json", ["x" * 200, "りんご 🍎"])
    assert read_class_names(path) == (("x" * 200,), ("りんご 🍎",))
