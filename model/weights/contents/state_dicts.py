"""State dicts: finding a DiT's tensors in whatever a training loop saved.

The weights are wherever tensors have a DiT's names: in any nesting of dictionaries and lists, and behind
any prefix that all names of one DiT share. What is beside them is left out.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from model.weights.errors import CheckpointError

_OFFICIAL = ("pos_embed", "x_embedder", "t_embedder", "y_embedder", "blocks", "final_layer")
_DIFFUSERS = ("pos_embed", "transformer_blocks", "proj_out_1", "proj_out_2", "norm_out")
_MODULES = frozenset({*_OFFICIAL, *_DIFFUSERS})
"""The modules of a DiT, with which its tensors' names begin."""

_MARKS = (
    frozenset(
        {
            "x_embedder.proj.weight",
            "t_embedder.mlp.0.weight",
            "y_embedder.embedding_table.weight",
            "final_layer.linear.weight",
        }
    ),
    frozenset(
        {
            "pos_embed.proj.weight",
            "transformer_blocks.0.norm1.linear.weight",
            "proj_out_1.weight",
            "proj_out_2.weight",
        }
    ),
)
"""Names that together occur in no other network; two of them make a DiT."""

_WRAPPERS = frozenset(
    {
        "module",
        "_orig_mod",
        "_forward_module",
        "_fsdp_wrapped_module",
        "_checkpoint_wrapped_module",
    }
)
"""What DDP, torch.compile, Lightning, FSDP and checkpointing add to names, at any place in them."""

_EMA = re.compile(
    r"(?<![A-Za-z])(ema|Ema|EMA)(?![a-z])|(?<=[a-z])(Ema|EMA)(?![a-z])|(model|net|weights)ema(?![a-z])"
    r"|(?i:averag|avg|polyak|shadow)|(?<![A-Za-z])(swa|SWA)(?![a-z])"
)
_NOT_EMA = re.compile(r"non?[_-]?ema", re.IGNORECASE)
_OPTIMISER = re.compile(
    r"(opt|optim|optimi[sz]ers?)(?![a-z])|grad|exp_avg|momentum|max_exp_avg", re.IGNORECASE
)
_BESIDE = re.compile(
    r"(opt|optim|optimi[sz]er\w*|\w*ema\w*|\w*scaler|\w*scheduler|\w*steps?|n_averaged|initted"
    r"|epoch|decay|logvar|lvlb_weights|\w*betas?|\w*alphas?\w*|\w*alpha_bars?|posterior_\w+)(\.|$)"
    r"|.*\.\d+$"
)
"""Names beside a DiT's own that are not layers: counters, noise schedules, an EMA's or optimiser's
tensors, numbered lists."""

_MAX_DEPTH = 8
_ARGUMENTS = re.compile(
    r"((train|training|model|dit|network|net|diffusion|transport)_?)?"
    r"(args|arguments|config|configuration|cfg|hparams|hyper_?parameters|options|opts|settings|kwargs)",
    re.IGNORECASE,
)
"""Where training scripts keep their settings."""


@dataclass(frozen=True, slots=True)
class StateDict:
    """One DiT's tensors under its own names.

    ``place`` says where in the file they were: keys and prefix joined by dots, "" at the top.
    ``others`` are the places of further DiTs.
    """

    tensors: dict[str, Tensor]
    place: str
    others: tuple[str, ...] = ()


def find_state_dict(content: object, path: Path) -> StateDict:
    """Find a DiT in the content of a file; averaged weights (EMA) go before others.

    Raises:
        CheckpointError: there is none, or there are several that differ; the message says what the
            file holds.
    """
    mappings = _mappings(content, (), set())
    found = [each for keys, mapping in mappings for each in _state_dicts(keys, mapping)]
    if not found:
        problem = f"missing tensors: no weights of a DiT; it holds {summary(content)}"
        raise CheckpointError(path, problem)
    most = max(averages_in(each.place) for each in found)
    first, *rest = [each for each in found if averages_in(each.place) == most]
    check_tensors(first.tensors, path)
    for other in rest:
        check_tensors(other.tensors, path)
        if not _equal(first.tensors, other.tensors):
            places = f"at {first.place or 'the top'} and at {other.place or 'the top'}"
            problem = f"holds two different DiTs, {places}: save one of them alone"
            raise CheckpointError(path, problem)
    others = [each for each in found if each is not first]
    tensors = _with_position_embedding(first.tensors, [each.tensors for each in others])
    return StateDict(tensors, first.place, tuple(each.place or "the top" for each in others))


def check_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Check that tensors can be read without surprises.

    Raises:
        CheckpointError: one is not dense floating-point data, or claims more than is stored for it.
    """
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_meta or not tensor.is_floating_point():
            kind = f"{tensor.dtype}, {tensor.layout}, on {tensor.device}"
            problem = f"tensor {name[:80]} is {kind}, but must be dense floating-point data"
            raise CheckpointError(path, problem)
        if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
            problem = f"tensor {name[:80]} is larger than the data stored for it"
            raise CheckpointError(path, problem)


def training_arguments(content: object) -> dict[str, object]:
    """What a training script stored of its settings beside the weights, nested ones flattened."""
    settings: dict[str, object] = {}
    entries = content if isinstance(content, Mapping) else {}
    for key, value in entries.items():
        if _ARGUMENTS.fullmatch(str(key)):
            _flatten(value, settings, _MAX_DEPTH)
        elif isinstance(value, str | int | float):
            settings.setdefault(str(key), value)
    return settings


def summary(content: object) -> str:
    """A short description of what a file holds."""
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    entries = [f"{str(key)[:40]} ({_kind(value)})" for key, value in [*content.items()][:6]]
    more = [f"{len(content) - 6} more"] if len(content) > 6 else []
    return ", ".join([*entries, *more]) or "nothing"


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return "tensor"
    if isinstance(value, Mapping) and value:
        return f"{len(value)} entries such as {str(next(iter(value)))[:40]}"
    return type(value).__name__


def _mappings(
    content: object, keys: tuple[str, ...], seen: set[int]
) -> Iterator[tuple[tuple[str, ...], Mapping[object, object]]]:
    """Every dictionary in the content, once, with the keys that lead to it."""
    if id(content) in seen:
        return
    seen.add(id(content))
    if isinstance(content, Mapping):
        yield keys, content
        children = [*content.items()]
    elif isinstance(content, list | tuple):
        children = [*enumerate(content)]
    else:
        return
    for key, child in children:
        if len(keys) < _MAX_DEPTH and not _OPTIMISER.match(str(key)):
            yield from _mappings(child, (*keys, str(key)), seen)


def _state_dicts(keys: tuple[str, ...], mapping: Mapping[object, object]) -> Iterator[StateDict]:
    """The DiTs among the tensors of one dictionary, one for each prefix."""
    tensors = {
        name: value
        for name, value in mapping.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    places = {name: _split(name) for name in tensors}
    places |= _without_dots(_dits(tensors, places), tensors)
    dits = _dits(tensors, places)
    for name, tensor in tensors.items():
        if places[name][0] not in dits:
            _add_layer(dits, name, tensor)
    for prefix, group in dits.items():
        place = ".".join([*keys, prefix.rstrip(".")]).strip(".")
        yield StateDict({own: group[own] for own in group if own}, place)


def _split(name: str) -> tuple[str, str]:
    """A tensor's prefix and its name in the DiT, or the whole name as prefix if it has none."""
    parts = name.split(".")
    for i, part in enumerate(parts):
        if part in _MODULES:
            own = [each for each in parts[i:] if each not in _WRAPPERS]
            return "".join(f"{each}." for each in parts[:i]), ".".join(own)
    return f"{name}.", ""


def _is_dit(prefix: str, group: dict[str, Tensor]) -> bool:
    """Whether these are a DiT's tensors, and not an optimiser's under the same names."""
    marked = any(len(marks & group.keys()) > 1 for marks in _MARKS)
    return marked and not any(_OPTIMISER.match(part) for part in prefix.split("."))


def _dits(
    tensors: dict[str, Tensor], places: dict[str, tuple[str, str]]
) -> dict[str, dict[str, Tensor]]:
    """The groups of tensors with the same prefix that are DiTs, by that prefix."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name, (prefix, own) in places.items():
        groups.setdefault(prefix, {})[own] = tensors[name]
    return {prefix: group for prefix, group in groups.items() if _is_dit(prefix, group)}


def _without_dots(
    dits: dict[str, dict[str, Tensor]], names: Iterable[str]
) -> dict[str, tuple[str, str]]:
    """Prefixes and names of tensors that latent diffusion's EMA names as a DiT's, without dots."""
    owners: dict[str, str] = {}
    for prefix, group in dits.items():
        parts = prefix.split(".")
        for start in range(len(parts)):
            inner = "".join(parts[start:])
            owners |= {inner + own.replace(".", ""): own for own in group if "." in own}
    heads = {name: name.rpartition(".") for name in names}
    return {
        name: (f"{head}.", owners[last])
        for name, (head, _, last) in heads.items()
        if last in owners
    }


def _add_layer(dits: dict[str, dict[str, Tensor]], name: str, tensor: Tensor) -> None:
    """Add a tensor to the DiT whose prefix it has, unless it only stands beside: a layer too many is
    another architecture, and the error will name it."""
    prefix = max((each for each in dits if name.startswith(each)), key=len, default=None)
    if prefix is not None:
        own = ".".join(each for each in name[len(prefix) :].split(".") if each not in _WRAPPERS)
        if tensor.is_floating_point() and not _BESIDE.match(own):
            dits[prefix][own] = tensor


def averages_in(place: str) -> int:
    """How many of the keys say that the weights are averaged."""
    keys = place.split(".")
    return sum(bool(_EMA.search(key)) and not _NOT_EMA.search(key) for key in keys)


def _equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _with_position_embedding(
    tensors: dict[str, Tensor], others: list[dict[str, Tensor]]
) -> dict[str, Tensor]:
    """An average over the trained parameters lacks the position embedding, which never changes."""
    fixed = [other["pos_embed"] for other in others if "pos_embed" in other]
    is_official = "blocks.0.attn.qkv.weight" in tensors  # diffusers never stores it
    return {"pos_embed": fixed[0], **tensors} if fixed and is_official else tensors


def _flatten(value: object, settings: dict[str, object], depth: int) -> None:
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if isinstance(value, Mapping) and depth:
        for key, each in value.items():
            settings.setdefault(str(key), each)
            _flatten(each, settings, depth - 1)
