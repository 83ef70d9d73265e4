"""WordNet ids: ImageNet's, and which models get them."""

from __future__ import annotations

import pytest

from model.weights.class_names import default_class_names, is_wordnet_id
from model.weights.wordnet_ids import with_wordnet_ids

IMAGENET = default_class_names(1000)
PLAIN = tuple(names[:-1] for names in IMAGENET)
"""ImageNet's names without ids, as the official model's folder has them."""


def test_every_imagenet_class_has_its_own_id_and_their_order_is_the_classes() -> None:
    ids = [names[-1] for names in IMAGENET]
    assert all(map(is_wordnet_id, ids))
    assert ids == sorted(set(ids))
    assert len(ids) == 1000
    assert not any(is_wordnet_id(name) for names in PLAIN for name in names)


@pytest.mark.parametrize(
    ("class_id", "wordnet_id", "name"),
    [
        (0, "n01440764", "tench"),
        (1, "n01443537", "goldfish"),
        (88, "n01818515", "macaw"),
        (134, "n02012849", "crane"),  # the bird
        (207, "n02099601", "golden retriever"),
        (281, "n02123045", "tabby"),
        (360, "n02444819", "otter"),
        (517, "n03126707", "crane"),  # the machine
        (638, "n03710637", "maillot"),
        (639, "n03710721", "maillot"),
        (817, "n04285008", "sports car"),
        (985, "n11939491", "daisy"),
        (999, "n15075141", "toilet tissue"),
    ],
)
def test_well_known_ids(class_id: int, wordnet_id: str, name: str) -> None:
    assert (IMAGENET[class_id][0], IMAGENET[class_id][-1]) == (name, wordnet_id)


def test_a_model_that_names_imagenets_classes_itself_gets_their_ids() -> None:
    assert with_wordnet_ids(PLAIN) == IMAGENET
    assert with_wordnet_ids(IMAGENET) == IMAGENET


def test_spelling_and_synonyms_do_not_matter() -> None:
    names = (("Golden_Retriever",) if i == 207 else each for i, each in enumerate(PLAIN))
    assert with_wordnet_ids(tuple(names))[207] == ("Golden_Retriever", "n02099601")
    last = (each[-1:] for each in PLAIN)
    assert with_wordnet_ids(tuple(last))[999] == ("bathroom tissue", "n15075141")


def test_a_class_that_is_not_imagenets_gets_no_id() -> None:
    assert with_wordnet_ids(tuple(reversed(PLAIN))) == tuple(reversed(PLAIN))
    mixed = (("teapot",), *PLAIN[1:])
    assert with_wordnet_ids(mixed)[:2] == (("teapot",), IMAGENET[1])


def test_a_model_of_fewer_classes_gets_no_ids() -> None:
    assert with_wordnet_ids(PLAIN[:5]) == PLAIN[:5]


def test_a_class_keeps_the_id_that_it_has() -> None:
    own = (("tench", "n00000000"), *PLAIN[1:])
    assert with_wordnet_ids(own)[0] == ("tench", "n00000000")


@pytest.mark.parametrize("name", ["n0144076", "n014407640", "N01440764", "v01440764", "n٠١٤٤٠٧٦٤"])
def test_what_is_not_an_id(name: str) -> None:
    assert not is_wordnet_id(name)
