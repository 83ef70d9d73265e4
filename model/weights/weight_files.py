"""WeightFiles: the files that hold one network's tensors, and loading them into a module."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from model.weights.config_files import JsonFile
from model.weights.contents.held import hold
from model.weights.contents.kinds import kind_of
from model.weights.contents.mapped_memory import release_pages
from model.weights.contents.pickles import read_pickle
from model.weights.contents.state_dicts import check_tensors, summary
from model.weights.errors import CheckpointError, first_line

STEM = "diffusion_pytorch_model"
_PLAIN_NAMES = (
    f"{STEM}.safetensors",
    f"{STEM}.safetensors.index.json",
    f"{STEM}.bin",
    f"{STEM}.bin.index.json",
)
"""The names that diffusers gives to weights without a variant, in order of preference."""

_VARIANT = re.compile(
    rf"{STEM}\.(?P<variant>[\w-]+)\.(safetensors|bin)(\.index\.json)?"
    rf"|{STEM}\.(safetensors|bin)\.index\.(?P<index_variant>[\w-]+)\.json"
)
"""The names of variants such as bf16; an index has had two forms."""

VARIANTS = ("ema", "fp32", "bf16", "fp16")
"""In order of preference; others come after them."""

_RELEASED_BYTES = 1 << 27
"""How much of a mapped file may be in memory beside the tensors already moved."""


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """One file of weights, or an index and the shards it lists.

    ``path`` is the file or the index; errors name it. ``weight_map`` holds an index's pairs
    (tensor name, file name). ``opened`` says where to read each file, if not by its name.
    """

    path: Path
    files: tuple[Path, ...]
    weight_map: tuple[tuple[str, str], ...] | None = None
    opened: tuple[Path, ...] = ()

    @classmethod
    def from_file(cls, path: Path) -> WeightFiles:
        return cls(path, (path,))

    @classmethod
    def from_index(cls, path: Path) -> WeightFiles:
        """Read an index of shards.

        Raises:
            CheckpointError: it has no weight_map, or one that names files outside its folder.
        """
        weight_map = JsonFile.read(path).fields.get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(path, "must have a weight_map that is not empty")
        for file in weight_map.values():
            if not isinstance(file, str) or Path(file).name != file or not file.strip("."):
                problem = f"weight_map must name files in the same folder, not {file!r}"
                raise CheckpointError(path, problem)
        files = tuple(path.parent / file for file in sorted(set(weight_map.values())))
        return cls(path, files, tuple(weight_map.items()))

    @classmethod
    def in_folder(cls, folder: Path) -> WeightFiles:
        """Find the weights in a diffusers model folder.

        Raises:
            CheckpointError: the folder has none, or the index is invalid.
        """
        plain = [folder / name for name in _PLAIN_NAMES if (folder / name).is_file()]
        for path in plain or _variants(folder):
            is_index = ".index." in path.name
            return cls.from_index(path) if is_index else cls.from_file(path)
        raise CheckpointError(folder, f"has no weights ({STEM}.safetensors or .bin)")

    @contextmanager
    def held(self) -> Iterator[WeightFiles]:
        """The same files, opened once: what the block reads of them is the same bytes.

        Another file that takes the name of one meanwhile is not read.

        Raises:
            CheckpointError: at the end, if one was written to, replaced or removed meanwhile.
        """
        with ExitStack() as stack:
            opened = [stack.enter_context(hold(path)) for path in self.files]
            yield replace(self, opened=tuple(opened))

    def nbytes(self) -> int:
        return sum(path.stat().st_size for path in self.files if path.is_file())

    def read(self) -> object:
        """Read what the files hold, on the CPU, memory-mapped if possible.

        safetensors files and shards give a dictionary of tensors, a pickle whatever was saved.

        Raises:
            CheckpointError: a file is missing or broken, or is a pickle of more than plain data.
        """
        if self.weight_map is None:
            return _read_file(self.path, *self.opened)
        shards = {
            path.name: _tensors(path, _read_file(path, place)) for path, place in self._places()
        }
        state = {}
        for name, file in self.weight_map:
            if name not in shards[file]:
                problem = f"has no tensor {name}, but {self.path.name} lists it there"
                raise CheckpointError(self.path.parent / file, problem)
            state[name] = shards[file][name]
        return state

    def tensors(self) -> dict[str, Tensor]:
        """Read files that hold nothing but tensors.

        Raises:
            CheckpointError: as `read`, or they hold something else.
        """
        return _tensors(self.path, self.read())

    def release(self) -> None:
        """Take what was read out of memory; the tensors stay valid and are read again if needed."""
        release_pages(self.opened or self.files)

    def digest(self) -> bytes:
        """SHA-256 over the SHA-256 of each file, in order."""
        whole = hashlib.sha256()
        for _, place in self._places():
            with place.open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        return whole.digest()

    def _places(self) -> Iterator[tuple[Path, Path]]:
        """Each file, and where to read it."""
        return zip(self.files, self.opened or self.files)


def _variants(folder: Path) -> list[Path]:
    """The weights of each variant, the preferred one first."""

    def rank(match: re.Match[str]) -> tuple[object, ...]:
        variant = match["variant"] or match["index_variant"]
        known = VARIANTS.index(variant) if variant in VARIANTS else len(VARIANTS)
        return known, variant, ".bin" in match[0], ".index." in match[0]

    found = [_VARIANT.fullmatch(path.name) for path in folder.glob(f"{STEM}.*") if path.is_file()]
    return [folder / match[0] for match in sorted(filter(None, found), key=rank)]


def load_state(
    module: nn.Module,
    state: dict[str, Tensor],
    weights: WeightFiles,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Move tensors one by one to the device and assign them to a module on "meta", frozen.

    What was read from ``weights``, the files of ``state``, leaves the memory again as it goes.

    Raises:
        CheckpointError: a name is missing or unexpected, a shape differs, or a value is not
            finite; the message names the file.
    """
    _check_shapes(module.state_dict(), state, weights.path)
    moved: dict[str, Tensor] = {}
    unreleased = 0
    for name, tensor in state.items():
        moved[name] = tensor.to(device, dtype, copy=True).contiguous()
        unreleased += tensor.nbytes
        if unreleased > _RELEASED_BYTES:
            weights.release()
            unreleased = 0
    finite = torch.stack([tensor.isfinite().all() for tensor in moved.values()])
    if not finite.all():
        name = list(moved)[int(finite.logical_not().nonzero()[0])]
        raise CheckpointError(weights.path, f"tensor {name} contains NaN or infinity (as {dtype})")
    module.load_state_dict(moved, strict=True, assign=True)
    module.requires_grad_(False)


def _check_shapes(expected: dict[str, Tensor], found: dict[str, Tensor], path: Path) -> None:
    _check_names(set(expected), set(found), path)
    for name, tensor in found.items():
        shape, expected_shape = tuple(tensor.shape), tuple(expected[name].shape)
        if shape != expected_shape:
            problem = f"tensor {name} has shape {shape}, but must have {expected_shape}"
            raise CheckpointError(path, problem)


def _check_names(expected: set[str], found: set[str], path: Path) -> None:
    for names, adjective in ((expected - found, "missing"), (found - expected, "unexpected")):
        if names:
            others = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise CheckpointError(path, f"{adjective} tensor {min(names)[:80]}{others}")


def _read_file(path: Path, place: Path | None = None) -> object:
    place = place or path
    if not place.is_file():
        raise CheckpointError(path, "no such file")
    try:
        kind = kind_of(path, place)
        if path.suffix == ".safetensors" and kind in ("zip", "pickle"):
            # torch goes by the name, and would not read it.
            raise CheckpointError(path, "is a PyTorch file: let its name end in .pt or .bin")
        if kind == "safetensors" or (kind == "other" and path.suffix == ".safetensors"):
            content: object = _read_safetensors(path, place)
        else:
            content = read_pickle(path, place)
    except OSError as error:
        problem = error.strerror or first_line(error)
        raise CheckpointError(path, f"cannot be read: {problem}") from error
    if isinstance(content, dict) and not content:
        raise CheckpointError(path, "contains no tensors")
    return content


def _read_safetensors(path: Path, place: Path) -> dict[str, Tensor]:
    try:
        with safe_open(place, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        problem = f"is not a complete safetensors file: {first_line(error)}"
        raise CheckpointError(path, problem) from error


def _tensors(path: Path, content: object) -> dict[str, Tensor]:
    """The content of a file, which must be tensors by name: at the top, or under "state_dict"."""
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise CheckpointError(path, f"must hold tensors by name, but holds {summary(content)}")
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            problem = f"entry {str(name)[:80]!r} must be a tensor with a name"
            raise CheckpointError(path, problem)
    check_tensors(content, path)
    return dict(content)
