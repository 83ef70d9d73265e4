"""WeightFiles: the files that hold one network's tensors, and loading them into a module."""

from __future__ import annotations

import argparse
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from model.weights.config_files import JsonFile
from model.weights.errors import CheckpointError, first_line
from model.weights.mapped_memory import release_pages

_STEM = "diffusion_pytorch_model"
FILE_NAMES = (
    f"{_STEM}.safetensors",
    f"{_STEM}.safetensors.index.json",
    f"{_STEM}.bin",
    f"{_STEM}.bin.index.json",
    f"{_STEM}.fp16.safetensors",
    f"{_STEM}.fp16.bin",
)
"""The names diffusers gives to a network's weights, in order of preference."""

_RELEASED_BYTES = 1 << 27
"""How much of a mapped file may be in memory beside the tensors already moved."""


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """One file of weights, or an index and the shards it lists.

    ``path`` is the file or the index; errors name it. ``weight_map`` holds an index's pairs
    (tensor name, file name).
    """

    path: Path
    files: tuple[Path, ...]
    weight_map: tuple[tuple[str, str], ...] | None = None

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
        for name in FILE_NAMES:
            path = folder / name
            if path.is_file():
                is_index = name.endswith(".index.json")
                return cls.from_index(path) if is_index else cls.from_file(path)
        raise CheckpointError(folder, f"has no weights ({_STEM}.safetensors or .bin)")

    def nbytes(self) -> int:
        return sum(path.stat().st_size for path in self.files if path.is_file())

    def read(self) -> dict[str, Tensor]:
        """Read all tensors by their names in the files, on the CPU, memory-mapped if possible.

        Raises:
            CheckpointError: a file is missing, broken, or holds anything other than tensors.
        """
        shards = {path.name: _read_file(path) for path in self.files}
        if self.weight_map is None:
            return {name: tensor for shard in shards.values() for name, tensor in shard.items()}
        state = {}
        for name, file in self.weight_map:
            if name not in shards[file]:
                problem = f"has no tensor {name}, but {self.path.name} lists it there"
                raise CheckpointError(self.path.parent / file, problem)
            state[name] = shards[file][name]
        return state

    def release(self) -> None:
        """Take what was read out of memory; the tensors stay valid and are read again if needed."""
        release_pages(self.files)

    def digest(self) -> bytes:
        """SHA-256 over the SHA-256 of each file, in order."""
        whole = hashlib.sha256()
        for path in self.files:
            with path.open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        return whole.digest()


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


def _read_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(path, "no such file")
    try:
        state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    except OSError as error:
        raise CheckpointError(path, f"cannot be read: {first_line(error)}") from error
    for name, tensor in state.items():
        _check_tensor(path, name, tensor)
    if not state:
        raise CheckpointError(path, "contains no tensors")
    return state


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        problem = f"is not a complete safetensors file: {first_line(error)}"
        raise CheckpointError(path, problem) from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"
    try:
        # The official training script stores its command line, a Namespace, with the weights.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # torch raises many types for a broken or hostile pickle
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code:
            problem = f"refused: loading it would run {code[1]}, and only plain data is loaded"
            raise CheckpointError(path, problem) from error
        problem = f"is not a complete PyTorch file: {first_line(error)}"
        raise CheckpointError(path, problem) from error
    return _state_dict(path, content)


def _state_dict(path: Path, content: object) -> dict[str, Tensor]:
    """The weights in an official file: at the top level, or under "ema" or "model"."""
    for key in ("ema", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict):
        problem = f"must hold a state dict, but holds a {type(content).__name__}"
        raise CheckpointError(path, problem)
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            problem = f"entry {str(name)[:80]!r} must be a tensor with a name"
            raise CheckpointError(path, problem)
    return dict(content)


def _check_tensor(path: Path, name: str, tensor: Tensor) -> None:
    if tensor.layout != torch.strided or tensor.is_meta or not tensor.is_floating_point():
        kind = f"{tensor.dtype}, {tensor.layout}, on {tensor.device}"
        problem = f"tensor {name[:80]} is {kind}, but must be dense floating-point data"
        raise CheckpointError(path, problem)
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        raise CheckpointError(path, f"tensor {name[:80]} is larger than the data stored for it")
