"""Checkpoint: a model from any source of weights, whole and on its device."""

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
from model.weights.architecture import Architecture, architecture_of, official_state
from model.weights.class_names import ClassNames, default_class_names, read_class_names
from model.weights.config_files import JsonFile
from model.weights.errors import CheckpointError, reason
from model.weights.files import Weights, fill
from model.weights.load_vae import default_vae_dtype, load_vae
from model.weights.sources import (
    OFFICIAL_VAE,
    OFFICIAL_VAE_CHANNELS,
    Report,
    Source,
    find_source,
    find_vae,
)

__all__ = ["Checkpoint", "CheckpointError", "load_checkpoint"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model that is ready to sample: frozen, in eval mode, on its device, in its dtype.

    ``class_names`` gives for each class id the name, then its synonyms. ``digest`` is SHA-256 in
    hex over the files of the weights and the numbers that decide what they draw. ``licence`` is
    that of the transformer's weights, None where it is unknown. ``default_cfg_scale`` is the
    guidance that the model's maker recommends, None where nothing is said.
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


def load_checkpoint(
    source: str,
    *,
    device: torch.device,
    dtype: torch.dtype,
    vae: str | None = None,
    classes: Path | None = None,
    report: Report = lambda line: None,
) -> Checkpoint:
    """Load a model.

    Args:
        source: "bundled"; a folder in the layout of diffusers' DiTPipeline; an official .pt or a
            .safetensors under either naming, with or without a config.json beside it; or a hub id.
        device: where the weights go, tensor by tensor.
        dtype: the transformer's; the autoencoder runs in it too where the device is fast in it.
        vae: folder or hub id of an autoencoder, in place of the source's own.
        classes: JSON file of class names, in place of the source's own.
        report: takes one line of text as each part begins.

    Raises:
        CheckpointError: anything is wrong with any file, in one line that names it.
    """
    with _as_checkpoint_errors(source, device):
        found = find_source(source, report)
        report(f"{found.name}: reading {found.transformer.nbytes() / 1e6:.0f} MB of weights")
        with ThreadPoolExecutor(2) as pool:  # hashing leaves the interpreter to the loading
            dit_digest = pool.submit(found.transformer.digest)
            dit, architecture = _load_dit(found, device, dtype, report)
            names = _class_names(found, classes, dit.num_classes)
            vae_folder = _vae_folder(found, vae, dit.in_channels, report)
            report(f"{found.name}: reading the autoencoder in {vae_folder}")
            vae_digest = pool.submit(lambda: Weights.in_folder(vae_folder).digest())
            decoder = load_vae(vae_folder, device=device, dtype=default_vae_dtype(device, dtype))
        _check_channels(dit, decoder, vae_folder)
        facts = [asdict(architecture), asdict(found.schedule), _vae_facts(vae_folder)]
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
    """Put in one line what no reader below is asked to foresee."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise CheckpointError(source, f"does not fit on {device}: {reason(error)}") from error
    except OSError as error:  # no permission, a broken disk
        raise CheckpointError(error.filename or source, error.strerror or reason(error)) from error


def _load_dit(
    found: Source, device: torch.device, dtype: torch.dtype, report: Report
) -> tuple[DiT, Architecture]:
    weights = found.transformer
    state = official_state(weights.read(), weights, found.config)
    architecture = architecture_of(state, weights, found.config)
    if found.config is None:
        size, heads = architecture.input_size, architecture.num_heads
        report(
            f"{found.name}: no config.json beside it, taken for input_size {size}, {heads} heads"
        )
    dit = architecture.build()
    fill(dit, state, weights.place, device=device, dtype=dtype)
    return dit, architecture


def _class_names(found: Source, classes: Path | None, num_classes: int) -> ClassNames:
    names = found.class_names if classes is None else read_class_names(classes)
    if names is None:
        return default_class_names(num_classes)
    if len(names) == num_classes:
        return names
    rows = f"the label table has {num_classes + 1} rows: {num_classes} classes and the null class"
    place = classes or (found.index.path if found.index else found.transformer.place)
    raise CheckpointError(place, f"names {len(names)} classes, but {rows}")


def _default_cfg_scale(found: Source) -> float | None:
    """What model_index.json says under a key of our own; diffusers passes over it."""
    key = "default_cfg_scale"
    if found.index is None or key not in found.index.fields:
        return None
    scale = found.index.number(key, 1.0)
    if not MIN_CFG_SCALE <= scale <= MAX_CFG_SCALE:
        raise found.index.wrong(key, f"must be {MIN_CFG_SCALE:g} .. {MAX_CFG_SCALE:g}")
    return scale


def _vae_folder(found: Source, vae: str | None, in_channels: int, report: Report) -> Path:
    if vae is not None:
        return find_vae(vae, report)
    if found.vae_folder is not None:
        return found.vae_folder
    if in_channels != OFFICIAL_VAE_CHANNELS:
        what = f"takes latents of {in_channels} channels: name an autoencoder for it"
        raise CheckpointError(found.transformer.place, what)
    return find_vae(OFFICIAL_VAE, report)


def _check_channels(dit: DiT, vae: Vae, vae_folder: Path) -> None:
    if vae.latent_channels != dit.in_channels:
        what = f"has {vae.latent_channels} latent channels, the transformer {dit.in_channels}"
        raise CheckpointError(vae_folder, what)


def _vae_facts(folder: Path) -> dict[str, object]:
    fields = JsonFile.read(folder / "config.json").fields
    notes = ("_diffusers_version", "_name_or_path")
    return {key: value for key, value in fields.items() if key not in notes}


def _digest(facts: list[dict[str, object]], *weights: bytes) -> str:
    text = json.dumps(facts, sort_keys=True).encode()
    return hashlib.sha256(b"".join([hashlib.sha256(text).digest(), *weights])).hexdigest()
