"""Pickles: reading what torch.save wrote, without importing or running anything that it names.

torch's weights_only unpickler builds tensors and plain data. Training scripts often store more beside
the weights: paths, numbers of numpy, their own settings. An inert stand-in takes the place of each such
object, so that it does not refuse the weights. Functions are refused: data does not need them.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from _compat_pickle import IMPORT_MAPPING
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Self

import torch

from model.weights.contents.kinds import kind_of
from model.weights.errors import CheckpointError, first_line

_DATA_MODULES = (
    "argparse collections copyreg dataclasses datetime decimal enum fractions ipaddress numbers pathlib"
    " re time types typing uuid zoneinfo"
)
"""Modules of the standard library that define data; every other one of it is refused."""

_DATA_BUILTINS = (
    "bool bytearray bytes complex dict float frozenset getattr int list object range set slice str tuple"
    " type"
)
"""Enum members and methods are pickled as a getattr, which a stand-in does not call."""

_MAPPINGS = frozenset(
    {
        "addict.addict.Dict",
        "collections.defaultdict",
        "easydict.EasyDict",
        "yacs.config.CfgNode",
    }
)
_LISTS = frozenset({"collections.deque"})

_MAX_STAND_INS = 100
_RE_SAVE = "if you trust the file, load it yourself and save its state dict alone with torch.save"


class StandIn:
    """Takes the place of an object that is not loaded; forgets what it is given."""

    def __new__(cls, *args: object) -> Self:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Nothing is kept."""


class MappingStandIn(StandIn):
    """For a class of dictionaries: torch's unpickler adds items to an OrderedDict only."""

    def __new__(cls, *args: object) -> OrderedDict[object, object]:  # type: ignore[misc]
        return OrderedDict()


class ListStandIn(StandIn):
    """For a class of lists."""

    def __new__(cls, *args: object) -> list[object]:  # type: ignore[misc]
        return []


def read_pickle(path: Path, place: Path | None = None) -> object:
    """What is in a file that torch.save wrote, on the CPU, memory-mapped if possible.

    Args:
        place: where to read it, if not by its name; errors have the name.

    Raises:
        CheckpointError: the file is broken, or names a function or a class that is not data.
    """
    stand_ins: dict[str, type] = {}
    kind = kind_of(path, place)
    if kind not in ("zip", "pickle"):
        raise CheckpointError(path, "is not a complete PyTorch file: it does not begin like one")
    while True:
        try:
            return _load(place or path, stand_ins, mmap=kind == "zip")
        except OSError:
            raise
        except Exception as error:  # torch raises many types for a broken or hostile pickle
            name = _unknown_name(error)
            if name is None:
                raise CheckpointError(path, _problem(error)) from error
            if name in stand_ins or len(stand_ins) == _MAX_STAND_INS or not is_data(name):
                raise CheckpointError(path, _refusal(name)) from error
            stand_ins[name] = _stand_in(name)


def is_data(name: str) -> bool:
    """Whether a pickle may name this and still be loaded, with a stand-in.

    Of Python itself, whose modules old pickles spell as Python 2 did, only what holds data, of numpy everything, and of other modules what is spelled
    like a class.
    """
    module, _, last = name.rpartition(".")
    package = IMPORT_MAPPING.get(module, module).partition(".")[0]
    if package == "builtins":
        return last in _DATA_BUILTINS.split()
    if package in sys.stdlib_module_names:
        return package in _DATA_MODULES.split()
    return package == "numpy" or last.lstrip("_")[:1].isupper()


def _load(path: Path, stand_ins: dict[str, type], *, mmap: bool) -> object:
    # The official training script stores its command line, a Namespace, with the weights.
    known: list[Callable[..., object] | tuple[Callable[..., object], str]] = [argparse.Namespace]
    known += [(stand_in, name) for name, stand_in in stand_ins.items()]
    with torch.serialization.safe_globals(known), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the pickle's protocol; the error says more
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def _unknown_name(error: Exception) -> str | None:
    """The name that torch refused to import, as written in the pickle."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    if found is None:
        return None
    return found[1] if "." in found[1] else f"builtins.{found[1]}"  # torch leaves "builtins." out


def _stand_in(name: str) -> type:
    base = MappingStandIn if name in _MAPPINGS else ListStandIn if name in _LISTS else StandIn
    return type("numpy value" if name.startswith("numpy") else name.split(".")[-1], (base,), {})


def _refusal(name: str) -> str:
    plain = name.removeprefix("builtins.")
    return f"refused: loading it would run {plain}, and only plain data is loaded; {_RE_SAVE}"


def _problem(error: Exception) -> str:
    text = first_line(error)
    if re.search(r"Can only|Unsupported operand|unrecognized function", str(error)):
        return f"refused: it holds more than plain data ({_reason(str(error))}); {_RE_SAVE}"
    return f"is not a complete PyTorch file: {text}"


def _reason(text: str) -> str:
    found = re.search(r"Can only[^,.\n]*|Unsupported operand \d+|[^\n]*unrecognized function", text)
    return found[0].strip()[:120] if found else ""
