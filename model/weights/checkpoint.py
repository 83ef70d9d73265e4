"""Checkpoint: a complete model on its device, loaded from any source of weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from model.networks.dit import DiT
from model.networks.vae import Vae
from model.sampling.parameters import MAX_CFG_SCALE, MIN_CFG_SCALE
from model.sampling.schedule import NoiseSchedule
from model.weights.architecture import Architecture, infer_architecture, official_state
from model.weights.class_names import ClassNames, default_class_names, read_class_names
from model.weights.config_files import JsonFile
from model.weights.errors import CheckpointError, first_line
from model.weights.load_vae import default_vae_dtype, load_vae
from model.weights.sources import (
    OFFICIAL_VAE,
    OFFICIAL_VAE_CHANNELS,
    Report,
    Source,
    find_source,
    find_vae,
)
from model.weights.weight_files import WeightFiles, load_state


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model ready to sample: frozen, in eval mode, on its device and in its dtype.

    Attributes:
        class_names: by class id, the name and then its synonyms.
        licence: of the transformer's weights; None if unknown.
        digest: SHA-256 in hex over the weight files and every number that affects the images.
        architecture: such as "DiT-XL/2".
        default_cfg_scale: the guidance that the model recommends; None if it recommends none.
    """

    name: str
    dit: DiT
    vae: Vae
    schedule: NoiseSchedule
    class_names: ClassNames
    licence: str | None
    digest: str
    architecture: str
    default_cfg_scale: float | None

    @property
    def image_size(self) -> int:
        """Pixels along a side."""
        return self.dit.input_size * self.vae.downscale_factor

    @property
    def dtype(self) -> torch.dtype:
        """The transformer's; the autoencoder may have another."""
        return self.dit.pos_embed.dtype

    @property
    def device(self) -> torch.device:
        return self.dit.pos_embed.device


def load_checkpoint(
    source: str,
    *,
    revision: str | None = None,
    device: torch.device,
    dtype: torch.dtype,
    vae: str | None = None,
    classes: Path | None = None,
    report: Report = lambda line: None,
) -> Checkpoint:
    """Load a model.

    Args:
        source: "bundled", a folder in the layout of diffusers' DiTPipeline, an official .pt, a
            .safetensors under official or diffusers' names, or a hub id. A single file may have a
            config.json in its folder.
        revision: the hub id's branch, tag or commit; the main branch by default.
        device: where the weights go, tensor by tensor.
        dtype: the transformer's; `default_vae_dtype` derives the autoencoder's from it.
        vae: folder or hub id of an autoencoder to use instead of the source's own.
        classes: JSON file of class names to use instead of the source's own.
        report: called with a line of text at each stage of loading.

    Raises:
        CheckpointError: a file is missing, broken or inconsistent, or the device's memory is full.
    """
    with _as_checkpoint_errors(source, device):
        found = find_source(source, report, revision)
        report(f"{found.name}: reading {found.transformer.nbytes() / 1e6:.0f} MB of weights")
        with ThreadPoolExecutor(2) as pool:  # hashing releases the GIL while the weights load
            dit_digest = pool.submit(found.transformer.digest)
            dit, architecture = _load_dit(found, device, dtype, report)
            names = _class_names(found, classes, dit.num_classes)
            vae_folder = _vae_folder(found, vae, dit.in_channels, report)
            report(f"{found.name}: reading the autoencoder in {vae_folder}")
            vae_digest = pool.submit(lambda: WeightFiles.in_folder(vae_folder).digest())
            decoder = load_vae(vae_folder, device=device, dtype=default_vae_dtype(device, dtype))
        _check_channels(dit, decoder, vae_folder)
        facts = [asdict(architecture), asdict(found.schedule), _vae_config(vae_folder)]
        return Checkpoint(
            name=found.name,
            dit=dit,
            vae=decoder,
            schedule=found.schedule,
            class_names=names,
            licence=found.licence,
            digest=_digest(facts, dit_digest.result(), vae_digest.result()),
            architecture=architecture.name,
            default_cfg_scale=_default_cfg_scale(found),
        )


@contextmanager
def _as_checkpoint_errors(source: str, device: torch.device) -> Iterator[None]:
    """Turn errors that any reader can raise, of memory or the disk, into CheckpointErrors."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise CheckpointError(source, f"does not fit on {device}: {first_line(error)}") from error
    except OSError as error:  # no permission, a broken disk
        problem = error.strerror or first_line(error)
        raise CheckpointError(error.filename or source, problem) from error


def _load_dit(
    source: Source, device: torch.device, dtype: torch.dtype, report: Report
) -> tuple[DiT, Architecture]:
    weights = source.transformer
    state = official_state(weights.read(), weights.path, source.config)
    weights.release()  # the conversion has read a part of them
    architecture = infer_architecture(state, weights.path, source.config)
    if source.config is None:
        size, heads = architecture.input_size, architecture.num_heads
        report(f"{source.name}: no config.json, assuming input_size {size}, {heads} heads")
    dit = architecture.build()
    load_state(dit, state, weights, device=device, dtype=dtype)
    return dit, architecture


def _class_names(source: Source, classes: Path | None, num_classes: int) -> ClassNames:
    names = source.class_names if classes is None else read_class_names(classes)
    if names is None:
        return default_class_names(num_classes)
    if len(names) == num_classes:
        return names
    path = classes or (source.model_index.path if source.model_index else source.transformer.path)
    expected = f"the label table has {num_classes} and the null class"
    raise CheckpointError(path, f"names {len(names)} classes, but {expected}")


def _default_cfg_scale(source: Source) -> float | None:
    """Read our own key from model_index.json; diffusers ignores it."""
    key = "default_cfg_scale"
    if source.model_index is None or key not in source.model_index.fields:
        return None
    scale = source.model_index.number(key, 1.0)
    if not MIN_CFG_SCALE <= scale <= MAX_CFG_SCALE:
        raise source.model_index.error(key, f"must be from {MIN_CFG_SCALE:g} to {MAX_CFG_SCALE:g}")
    return scale


def _vae_folder(source: Source, vae: str | None, in_channels: int, report: Report) -> Path:
    if vae is not None:
        return find_vae(vae, report)
    if source.vae_folder is not None:
        return source.vae_folder
    if in_channels != OFFICIAL_VAE_CHANNELS:
        problem = f"needs an autoencoder with {in_channels} latent channels: name one"
        raise CheckpointError(source.transformer.path, problem)
    return find_vae(OFFICIAL_VAE, report)


def _check_channels(dit: DiT, vae: Vae, vae_folder: Path) -> None:
    if vae.latent_channels != dit.in_channels:
        expected = f"the transformer has {dit.in_channels}"
        problem = f"has {vae.latent_channels} latent channels, but {expected}"
        raise CheckpointError(vae_folder, problem)


def _vae_config(folder: Path) -> dict[str, object]:
    """The fields of the autoencoder's config.json, without notes of where it was made."""
    fields = JsonFile.read(folder / "config.json").fields
    notes = ("_diffusers_version", "_name_or_path")
    return {key: value for key, value in fields.items() if key not in notes}


def _digest(facts: list[dict[str, object]], *weights: bytes) -> str:
    text = json.dumps(facts, sort_keys=True).encode()
    return hashlib.sha256(b"".join([hashlib.sha256(text).digest(), *weights])).hexdigest()
