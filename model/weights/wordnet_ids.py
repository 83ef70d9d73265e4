"""WordNet ids: ImageNet's names for its classes that are the same in every language and library.

An id such as n02099601 is a synset's place in WordNet 3.0. ImageNet-1k numbers its classes in the order
of their ids (Russakovsky et al. 2015, arXiv:1409.0575).
"""

from __future__ import annotations

from model.weights.class_names import (
    ClassNames,
    default_class_names,
    has_names,
    is_wordnet_id,
)


def with_wordnet_ids(names: ClassNames) -> ClassNames:
    """Add its id to each class of ImageNet-1k, as the last of its names.

    A class counts as ImageNet's if the model has 1000 classes and this one shares a name with
    ImageNet's class of the same number. One that has an id already keeps it.
    """
    if not has_names(len(names)):
        return names
    return tuple(map(_with_id, names, default_class_names(len(names))))


def _with_id(own: tuple[str, ...], imagenet: tuple[str, ...]) -> tuple[str, ...]:
    *known, wordnet_id = imagenet
    if any(map(is_wordnet_id, own)) or not _plain(own) & _plain(known):
        return own
    return (*own, wordnet_id)


def _plain(names: list[str] | tuple[str, ...]) -> set[str]:
    return {name.casefold().replace("_", " ") for name in names}
