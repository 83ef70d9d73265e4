"""GET /classes, and class names of any kind in requests and answers."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator

import pytest
from PIL import Image

from tests.support.checkpoints import small_dit, write_pipeline
from tests.support.requests import PICTURE, generate, images_of, picture
from tests.support.services import Running, load_small_runner, running_service


def test_classes_are_listed_and_searched(service: Running) -> None:
    answer = service.client.get("/classes")
    unnumbered = {"wordnet_id": None}
    assert answer.json() == [
        {"id": 0, "name": "apple", "synonyms": ["Malus"]} | unnumbered,
        {"id": 1, "name": "pear", "synonyms": []} | unnumbered,
        {"id": 2, "name": "plum", "synonyms": ["damson plum"]} | unnumbered,
        {"id": 3, "name": "quince", "synonyms": []} | unnumbered,
        {"id": 4, "name": "fig", "synonyms": []} | unnumbered,
    ]
    assert service.client.get("/classes", params={"q": "DAMSON"}).json()[0]["id"] == 2
    assert service.client.get("/classes", params={"q": "%\x00 🍌"}).json() == []
    assert service.client.get("/classes?q=%ED%A0%80%FF").json() == []


@pytest.mark.parametrize("label", ["pear", "PEAR", " pear ", "1", 1])
def test_a_request_may_give_its_class_by_id_or_name(service: Running, label: int | str) -> None:
    answer = generate(service, PICTURE | {"class_label": label})
    assert answer.headers["X-Class-Label"] == "1"
    assert answer.content == generate(service, PICTURE).content


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service of a model with 1000 classes that its folder does not name."""
    folder = tmp_path_factory.mktemp("imagenet")
    write_pipeline(folder, small_dit(num_classes=1000), class_names=None)
    with running_service(lambda: load_small_runner(folder)) as running:
        yield running


def test_a_class_of_imagenet_has_a_wordnet_id(imagenet: Running) -> None:
    (found,) = imagenet.client.get("/classes", params={"q": "n02099601"}).json()
    assert found == {
        "id": 207,
        "name": "golden retriever",
        "synonyms": [],
        "wordnet_id": "n02099601",
    }
    assert len({each["wordnet_id"] for each in imagenet.client.get("/classes").json()}) == 1000


@pytest.mark.parametrize("label", ["n02099601", "N02099601", " n02099601", "golden retriever", 207])
def test_a_request_may_give_its_class_by_wordnet_id(imagenet: Running, label: int | str) -> None:
    answer = generate(imagenet, PICTURE | {"class_label": label})
    assert answer.headers["X-Class-Label"] == "207"
    assert json.loads(picture(answer).info["dit"])["class_name"] == "golden retriever"


STRANGE = ("りんご/🍎", "Käse, fromage", "../../etc", "!!!", "Ж" * 200)


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service whose class names are difficult for headers, files and encodings."""
    folder = write_pipeline(tmp_path_factory.mktemp("strange"), class_names=STRANGE)
    with running_service(lambda: load_small_runner(folder)) as running:
        yield running


@pytest.mark.parametrize("class_id", range(len(STRANGE)))
@pytest.mark.parametrize("output_format", ["png", "webp", "jpeg"])
def test_any_class_name_works_in_a_picture(
    strange: Running, class_id: int, output_format: str
) -> None:
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
def test_any_class_name_works_in_a_zip(strange: Running, class_id: int, name: str) -> None:
    answer = generate(strange, PICTURE | {"class_label": class_id}, "application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == [f"{name}-1-0.png"]


def test_any_class_name_works_in_json(strange: Running) -> None:
    answer = generate(strange, PICTURE | {"class_label": "りんご/🍎", "num_images": 2})
    assert answer.json()["parameters"]["class_name"] == "りんご/🍎"
    assert len(images_of(answer)) == 2
    unknown = generate(strange, {"class_label": "りんご"})
    assert unknown.json()["nearest"] == ["りんご/🍎"]
