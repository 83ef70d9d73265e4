"""Class names: how they are found, and GET /classes."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator

import pytest
from PIL import Image

from model.weights.class_names import default_class_names
from service.engine.class_catalogue import ClassCatalogue
from service.errors import InvalidRequest, UnknownClass
from tests.support.checkpoints import write_pipeline
from tests.support.requests import PICTURE, generate, images_of
from tests.support.services import Running, load_small_runner, running_service

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
        ("7", 5),  # a name goes before an id
        ("apple plum", 6),
        ("plum", 6),  # a class's own name goes before another's synonym
    ],
)
def test_a_class_is_found_by_id_name_or_synonym(label: int | str, class_id: int) -> None:
    assert catalogue().resolve(label).id == class_id


@pytest.mark.parametrize("label", ["Süßkartoffel", "süsskartoffel", "SÜSSKARTOFFEL"])
def test_letters_that_have_no_capital_are_found_by_what_stands_for_them(label: str) -> None:
    names = ClassCatalogue([("Apfel",), ("Süßkartoffel",)])
    assert names.resolve(label).id == 1
    assert [entry.id for entry in names.search("SS")] == [1]


@pytest.mark.parametrize("label", [-1, 9, 10**30, "9", "999999999"])
def test_an_id_out_of_range(label: int | str) -> None:
    with pytest.raises(InvalidRequest, match=r"class_label: must be 0 \.\. 8, or a class name"):
        catalogue().resolve(label)


@pytest.mark.parametrize(("label", "ids"), [("Crane", "2 or 3"), ("JAK", "7 or 8")])
def test_a_name_of_several_classes_asks_for_the_id(label: str, ids: str) -> None:
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
def test_an_unknown_name_gets_the_nearest(label: str, nearest: str) -> None:
    with pytest.raises(UnknownClass) as caught:
        catalogue().resolve(label)
    assert caught.value.nearest[0] == nearest
    assert nearest in caught.value.detail


@pytest.mark.parametrize("label", ["", "²", "٣", "-1", "1.0", "zzzzzz", "\x00"])
def test_what_is_no_name_at_all(label: str) -> None:
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


def test_imagenets_names() -> None:
    imagenet = ClassCatalogue(default_class_names(1000))
    assert len(imagenet) == 1000
    assert imagenet.resolve("golden retriever").id == 207
    assert imagenet.resolve("Cardigan Welsh corgi").id == 264
    with pytest.raises(InvalidRequest, match="134 or 517"):
        imagenet.resolve("crane")
    unambiguous = sum(_resolves(imagenet, i) for i in range(1000))
    assert unambiguous == 994  # three pairs share a name: crane, cardigan, maillot


def _resolves(names: ClassCatalogue, class_id: int) -> bool:
    try:
        return names.resolve(names.entries[class_id].name).id == class_id
    except InvalidRequest:
        return False


def test_the_list_of_classes(service: Running) -> None:
    answer = service.client.get("/classes")
    assert answer.json() == [
        {"id": 0, "name": "apple", "synonyms": ["Malus"]},
        {"id": 1, "name": "pear", "synonyms": []},
        {"id": 2, "name": "plum", "synonyms": ["damson plum"]},
        {"id": 3, "name": "quince", "synonyms": []},
        {"id": 4, "name": "fig", "synonyms": []},
    ]
    assert service.client.get("/classes", params={"q": "DAMSON"}).json()[0]["id"] == 2
    assert service.client.get("/classes", params={"q": "%\x00 🍌"}).json() == []
    assert service.client.get("/classes?q=%ED%A0%80%FF").json() == []


@pytest.mark.parametrize("label", ["pear", "PEAR", " pear ", "1", 1])
def test_a_request_may_name_its_class_in_any_way(service: Running, label: int | str) -> None:
    answer = generate(service, PICTURE | {"class_label": label})
    assert answer.headers["X-Class-Label"] == "1"
    assert answer.content == generate(service, PICTURE).content


STRANGE = ("りんご/🍎", "Käse, fromage", "../../etc", "!!!", "Ж" * 300)


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service whose class names are hard on headers, files and encodings."""
    folder = write_pipeline(tmp_path_factory.mktemp("strange"), class_names=STRANGE)
    with running_service(lambda: load_small_runner(folder)) as running:
        yield running


@pytest.mark.parametrize("class_id", range(len(STRANGE)))
@pytest.mark.parametrize("output_format", ["png", "webp", "jpeg"])
def test_any_name_fits_a_picture(strange: Running, class_id: int, output_format: str) -> None:
    body = PICTURE | {"class_label": class_id, "output_format": output_format}
    answer = generate(strange, body)
    assert answer.status_code == 200
    image = Image.open(io.BytesIO(answer.content))
    if output_format == "png":
        name = strange.client.get("/classes").json()[class_id]["name"]
        assert json.loads(image.info["dit"])["class_name"] == name


@pytest.mark.parametrize(
    ("class_id", "name"),
    [(0, "りんご"), (1, "Käse"), (2, "etc"), (3, "3"), (4, "Ж" * 80)],
)
def test_any_name_fits_a_zip(strange: Running, class_id: int, name: str) -> None:
    answer = generate(strange, PICTURE | {"class_label": class_id}, "application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == [f"{name}-1-0.png"]


def test_any_name_fits_json(strange: Running) -> None:
    answer = generate(strange, PICTURE | {"class_label": "りんご/🍎", "num_images": 2})
    assert answer.json()["parameters"]["class_name"] == "りんご/🍎"
    assert len(images_of(answer)) == 2
    unknown = generate(strange, {"class_label": "りんご"})
    assert unknown.json()["nearest"] == ["りんご/🍎"]
