"""ClassCatalogue: finding classes by id, name and synonym."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Literal

import pytest

from model.weights.class_names import default_class_names, parse_class_names
from service.engine.class_catalogue import ClassCatalogue, ClassEntry
from service.errors import InvalidRequest, UnknownClass

NAMES = (
    ("apple", "Malus"),
    ("golden retriever",),
    ("crane", "crane bird"),
    ("crane",),
    ("Ångström Öl",),
    ("7",),
    ("plum", "apple plum"),
    ("jackfruit", "plum", "jak"),
    ("breadfruit", "jak"),
)


def catalogue() -> ClassCatalogue:
    return ClassCatalogue(NAMES)


@pytest.mark.parametrize(
    ("label", "class_id"),
    [
        (0, 0),
        (6, 6),
        ("apple", 0),
        ("malus", 0),
        ("Golden Retriever", 1),
        ("golden_retriever", 1),
        (" GOLDEN   RETRIEVER ", 1),
        ("crane bird", 2),
        ("ångström öl", 4),
        ("ÅNGSTRÖM_ÖL", 4),
        ("3", 3),
        (" 03 ", 3),
        ("7", 5),  # a name takes precedence over an id
        ("apple plum", 6),
        ("plum", 6),  # a class's own name takes precedence over another's synonym
    ],
)
def test_a_class_is_found_by_id_name_or_synonym(label: int | str, class_id: int) -> None:
    assert catalogue().resolve(label).id == class_id


@pytest.mark.parametrize("label", ["Süßkartoffel", "süsskartoffel", "SÜSSKARTOFFEL"])
def test_names_are_compared_after_case_folding(label: str) -> None:
    names = ClassCatalogue([("Apfel",), ("Süßkartoffel",)])
    assert names.resolve(label).id == 1
    assert [entry.id for entry in names.search("SS")] == [1]


@pytest.mark.parametrize("label", [-1, 9, 10**30, "9", "999999999"])
def test_an_id_out_of_range_is_refused(label: int | str) -> None:
    with pytest.raises(
        InvalidRequest, match=r"class_label: must be an integer from 0 to 8, or a class name"
    ):
        catalogue().resolve(label)


@pytest.mark.parametrize(("label", "ids"), [("Crane", "2 or 3"), ("JAK", "7 or 8")])
def test_a_name_shared_by_several_classes_is_refused(label: str, ids: str) -> None:
    with pytest.raises(InvalidRequest, match=f"send the id, {ids}"):
        catalogue().resolve(label)


@pytest.mark.parametrize(
    ("label", "nearest"),
    [
        ("aple", "apple"),
        ("goldn retreiver", "golden retriever"),
        ("retriever", "golden retriever"),
        ("angstrom ol", "Ångström Öl"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(label: str, nearest: str) -> None:
    with pytest.raises(UnknownClass) as caught:
        catalogue().resolve(label)
    assert caught.value.nearest[0] == nearest
    assert nearest in caught.value.detail


@pytest.mark.parametrize("label", ["", "²", "٣", "-1", "1.0", "zzzzzz", "\x00"])
def test_text_that_is_neither_an_id_nor_a_name_is_refused(label: str) -> None:
    with pytest.raises(UnknownClass):
        catalogue().resolve(label)


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        ("APPLE", [0, 6]),
        ("n_r", [1]),
        ("malus", [0]),
        ("zz", []),
    ],
)
def test_search_finds_parts_of_names(query: str, ids: list[int]) -> None:
    assert [entry.id for entry in catalogue().search(query)] == ids


def test_imagenet_names_resolve_to_their_classes() -> None:
    imagenet = ClassCatalogue(default_class_names(1000))
    assert len(imagenet) == 1000
    assert imagenet.resolve("golden retriever").id == 207
    assert imagenet.resolve("Cardigan Welsh corgi").id == 264
    with pytest.raises(InvalidRequest, match="134 or 517"):
        imagenet.resolve("crane")
    unambiguous = sum(_resolves(imagenet, i) for i in range(1000))
    assert imagenet.resolve("tench, Tinca tinca").id == 0
    assert imagenet.resolve("tench, Tinca tinca, n01440764").id == 0
    assert unambiguous == 996  # two pairs share a name: crane, maillot; Cardigan is no cardigan


def _resolves(names: ClassCatalogue, class_id: int) -> bool:
    try:
        return names.resolve(names.entries[class_id].name).id == class_id
    except InvalidRequest:
        return False


@pytest.mark.parametrize(
    ("label", "class_id"),
    [("n01440764", 0), ("N02099601", 207), (" n02012849 ", 134), ("n03126707", 517)],
)
def test_imagenets_classes_are_found_by_their_wordnet_ids(label: str, class_id: int) -> None:
    imagenet = ClassCatalogue(default_class_names(1000))
    found = imagenet.resolve(label)
    assert found.id == class_id
    assert found.wordnet_id == label.strip().lower()
    assert found.wordnet_id not in found.words
    assert imagenet.search(label) == [found]


def test_search_finds_wordnet_ids_by_their_beginning_alone() -> None:
    imagenet = ClassCatalogue(default_class_names(1000))
    assert {entry.wordnet_id for entry in imagenet.search("n0209960")} == {"n02099601"}
    assert imagenet.search("2099601") == []
    assert {"n" in entry.name for entry in imagenet.search("n")} == {
        True,
        False,
    }  # a synonym has it
    assert all(map(_has_n, imagenet.search("n")))  # not every class, as every id begins with it


def _has_n(entry: ClassEntry) -> bool:
    return any("n" in word.casefold() for word in entry.words)


def test_a_wordnet_id_that_is_unknown_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownClass) as caught:
        ClassCatalogue(default_class_names(1000)).resolve("n02099600")
    assert "n02099601" in caught.value.nearest


def test_an_own_classs_wordnet_id_is_a_name_or_beside_one() -> None:
    content = {"0": ["n02121808", "cat", "house cat"], "1": ["n02084071"], "2": ["newt"]}
    names = ClassCatalogue(parse_class_names(content, Path("names.json")))
    assert names.entries == (
        ClassEntry(0, "cat", ("house cat",), "n02121808"),
        ClassEntry(1, "n02084071", (), "n02084071"),
        ClassEntry(2, "newt", ()),
    )
    assert [names.resolve(label).id for label in ("n02121808", "n02084071")] == [0, 1]
    assert [names.resolve(label).id for label in ("cat, house cat", "Newt")] == [0, 2]
    assert [entry.id for entry in names.search("n02")] == [0, 1]


def test_a_wordnet_id_of_two_classes_is_refused() -> None:
    names = ClassCatalogue([("cat", "n02121808"), ("tom", "n02121808")])
    with pytest.raises(InvalidRequest, match="send the id, 0 or 1"):
        names.resolve("n02121808")


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("a photo of a golden retriever, in the snow", ["golden retriever"]),
        ("An APPLE and a crane bird.", ["crane bird", "crane", "apple"]),
    ],
)
def test_names_that_a_text_mentions_are_the_nearest(text: str, nearest: list[str]) -> None:
    with pytest.raises(UnknownClass) as caught:
        catalogue().resolve(text)
    assert caught.value.nearest[: len(nearest)] == nearest


def test_a_long_text_does_not_hide_the_nearest_names() -> None:
    with pytest.raises(UnknownClass) as caught:
        catalogue().resolve("an apple " * 4000)
    assert caught.value.detail.endswith("; the nearest names are apple")
    assert len(caught.value.detail) < 300


LISTED = ("Pepper, red", "Pepper, green", "Apple, Malus", "house_cat,  dog", "Äpfel, grün")


@pytest.mark.parametrize("class_id", range(len(LISTED)))
def test_a_list_entry_is_found_as_it_is_written(class_id: int) -> None:
    names = ClassCatalogue(parse_class_names([*LISTED], Path("names.json")))
    for label in (LISTED[class_id], LISTED[class_id].upper(), LISTED[class_id].replace(", ", ",")):
        assert names.resolve(label).id == class_id
    assert names.resolve(names.entries[class_id].name).id == class_id


def test_the_parts_of_an_entry_are_synonyms_where_one_class_has_them() -> None:
    names = ClassCatalogue(parse_class_names([*LISTED], Path("names.json")))
    assert names.resolve("green").id == 1
    assert names.resolve("malus").id == 2
    with pytest.raises(InvalidRequest, match="send the id, 0 or 1"):
        names.resolve("pepper")


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("name", ["Crème brûlée", "ÄPFEL", "이미지", "Ångström", "ǰ"])
def test_names_are_compared_in_one_form_of_unicode(
    name: str, stored: Literal["NFC", "NFD"], form: Literal["NFC", "NFD", "NFKC", "NFKD"]
) -> None:
    names = ClassCatalogue([("x",), (unicodedata.normalize(stored, name),)])
    for label in (name, name.upper(), name.lower(), name.casefold()):
        assert names.resolve(unicodedata.normalize(form, label)).id == 1
    assert [entry.id for entry in names.search(unicodedata.normalize(form, name))] == [1]


def test_the_exact_spelling_goes_before_others_that_count_as_the_same() -> None:
    names = ClassCatalogue([("Polish",), ("polish",), ("house cat",), ("house_cat",)])
    assert [names.resolve(name).id for name in ("Polish", "polish", "house cat")] == [0, 1, 2]
    assert names.resolve("house_cat").id == 3
    with pytest.raises(InvalidRequest, match="send the id, 0 or 1"):
        names.resolve("POLISH")
