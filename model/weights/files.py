"""Weights: one network's tensors as they lie on the disk, and their way into a module."""

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
from model.weights.errors import CheckpointError, reason

_STEM = "diffusion_pytorch_model"
WEIGHT_FILES = (
    f"{_STEM}.safetensors",
    f"{_STEM}.safetensors.index.json",
    f"{_STEM}.bin",
    f"{_STEM}.bin.index.json",
    f"{_STEM}.fp16.safetensors",
    f"{_STEM}.fp16.bin",
)
"""What diffusers may call a network's weights, best first."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The files that hold one network; ``place`` names the one to blame when they do not fit."""

    place: Path
    files: tuple[Path, ...]
    assigned: tuple[tuple[str, str], ...] | None = None  # an index's (tensor, file name) pairs

    @classmethod
    def of_file(cls, path: Path) -> Weights:
        return cls(path, (path,))

    @classmethod
    def in_folder(cls, folder: Path) -> Weights:
        """Find the weights of a diffusers model folder.

        Raises:
            CheckpointError: the folder has none, or an index that does not make sense.
        """
        for name in WEIGHT_FILES:
            path = folder / name
            if path.is_file():
                return _sharded(path) if name.endswith(".index.json") else cls.of_file(path)
        raise CheckpointError(folder, f"has no weights ({_STEM}.safetensors or .bin)")

    def nbytes(self) -> int:
        return sum(path.stat().st_size for path in self.files if path.is_file())

    def read(self) -> dict[str, Tensor]:
        """Every tensor by its name in the file, on the host, memory-mapped where that is possible.

        Raises:
            CheckpointError: a file is missing, broken, or holds anything else than tensors.
        """
        parts = {path.name: _read_file(path) for path in self.files}
        if self.assigned is None:
            return {name: tensor for part in parts.values() for name, tensor in part.items()}
        state = {}
        for name, file in self.assigned:
            if name not in parts[file]:
                raise CheckpointError(self.place.parent / file, f"has no tensor {name}")
            state[name] = parts[file][name]
        return state

    def digest(self) -> bytes:
        """SHA-256 over the files' own digests, in order."""
        whole = hashlib.sha256()
        for path in self.files:
            with path.open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        return whole.digest()


def fill(
    module: nn.Module,
    state: dict[str, Tensor],
    place: Path,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Move tensors one by one to the device and make them the parameters of a module on "meta".

    Raises:
        CheckpointError: a name is missing or unknown, a shape differs, a number is not finite.
    """
    expected = module.state_dict()
    _check_names(set(expected), set(state), place)
    placed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)}, must be {tuple(expected[name].shape)}"
            raise CheckpointError(place, f"tensor {name} is {shapes}")
        placed[name] = tensor.to(device, dtype, copy=True).contiguous()
    finite = torch.stack([tensor.isfinite().all() for tensor in placed.values()])
    if not finite.all():
        name = list(placed)[int(finite.logical_not().nonzero()[0])]
        raise CheckpointError(place, f"tensor {name} holds NaN or infinity (as {dtype})")
    module.load_state_dict(placed, strict=True, assign=True)
    module.requires_grad_(False)


def _check_names(expected: set[str], found: set[str], place: Path) -> None:
    for names, what in ((expected - found, "lacks tensor"), (found - expected, "has unknown")):
        if names:
            others = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise CheckpointError(place, f"{what} {min(names)[:80]}{others}")


def _sharded(index: Path) -> Weights:
    places = JsonFile.read(index).fields.get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(index, "has no weight_map")
    for file in places.values():
        if not isinstance(file, str) or Path(file).name != file or not file.strip("."):
            raise CheckpointError(index, f"names {file!r}, must be a file beside it")
    files = tuple(index.parent / file for file in sorted(set(places.values())))
    return Weights(index, files, tuple(places.items()))


def _read_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(path, "no such file")
    try:
        state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    except OSError as error:
        raise CheckpointError(path, f"cannot be read: {reason(error)}") from error
    for name, tensor in state.items():
        _check_tensor(path, name, tensor)
    if not state:
        raise CheckpointError(path, "holds no tensors")
    return state


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(path, f"is not a whole safetensors file: {reason(error)}") from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"
    try:
        # The official training script keeps its command line in the file, beside the weights.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # whatever a broken or hostile pickle makes torch raise
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if wanted:
            what = f"refused: it wants to run {wanted[1]}; only plain weights are loaded"
            raise CheckpointError(path, what) from error
        raise CheckpointError(path, f"is not a whole PyTorch file: {reason(error)}") from error
    return _state_dict(path, content)


def _state_dict(path: Path, content: object) -> dict[str, Tensor]:
    """The weights in an official file: bare, or under "ema" or "model"."""
    for key in ("ema", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict):
        raise CheckpointError(path, f"holds a {type(content).__name__}, must be a state dict")
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise CheckpointError(path, f"entry {str(name)[:80]!r} is not a tensor")
    return dict(content)


def _check_tensor(path: Path, name: str, tensor: Tensor) -> None:
    if tensor.layout != torch.strided or tensor.is_meta or not tensor.is_floating_point():
        raise CheckpointError(path, f"tensor {name[:80]} is {tensor.dtype}, {tensor.layout}")
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        raise CheckpointError(path, f"tensor {name[:80]} repeats a smaller one")
