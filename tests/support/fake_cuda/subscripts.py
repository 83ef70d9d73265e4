"""Subscripts: ``tensor[key]`` as operations of aten.

torch's own code for them asks for the device's guard, which a CPU build of torch does not have.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

aten = torch.ops.aten


def subscript(tensor: Tensor, key: object) -> Tensor:
    """``tensor[key]``: a view, or a copy if a tensor is among the indices."""
    view, indices = _view(tensor, key)
    taken: Tensor = aten.index.Tensor(view, indices) if indices else view
    return taken


def assign(tensor: Tensor, key: object, value: object) -> None:
    """``tensor[key] = value``"""
    view, indices = _view(tensor, key)
    if indices:
        values = value if isinstance(value, Tensor) else torch.tensor(value, dtype=view.dtype)
        aten.index_put_.default(view, indices, values)
    elif isinstance(value, Tensor):
        aten.copy_.default(view, value)
    else:
        aten.fill_.Scalar(view, value)


def _view(tensor: Tensor, key: object) -> tuple[Tensor, list[Tensor | None]]:
    """Apply the numbers and slices of a key; returns the tensors among it by dimension."""
    indices: list[Tensor | None] = []
    dimension = 0
    for each in _whole(key if isinstance(key, tuple) else (key,), tensor.ndim):
        if isinstance(each, Tensor) and not each.ndim and not each.dtype.is_floating_point:
            each = int(each.item())
        if isinstance(each, Tensor | list):
            index = each if isinstance(each, Tensor) else torch.tensor(each)
            indices += [None] * (dimension - len(indices)) + [index]
        elif isinstance(each, slice):
            if each != slice(None):
                steps = each.start, each.stop, each.step or 1
                tensor = aten.slice.Tensor(tensor, dimension, *steps)
        elif each is None:
            tensor = aten.unsqueeze.default(tensor, dimension)
        elif isinstance(each, int) and not isinstance(each, bool):
            tensor = aten.select.int(tensor, dimension, each)
            continue
        else:
            raise TypeError(f"the fake device cannot index with {each!r}")
        dimension += 1
    return tensor, indices


def _whole(keys: Sequence[object], dimensions: int) -> list[object]:
    """The keys, with the slices that an ellipsis means in its place."""
    at = next((i for i, each in enumerate(keys) if each is Ellipsis), len(keys))
    named = sum(each is not None and each is not Ellipsis for each in keys)
    return [*keys[:at], *[slice(None)] * (dimensions - named), *keys[at + 1 :]]
