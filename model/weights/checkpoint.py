"""Checkpoint: a complete model on its device, loaded from any source of weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from model.networks.dit import DiT
from model.networks.vae import Vae
from model.sampling.fitted import FittedSolver
from model.sampling.ns import fractional_timesteps, offers_ns
from model.sampling.parameters import MAX_CFG_SCALE, MIN_CFG_SCALE
from model.sampling.presets import ANY_MODEL, Presets
from model.sampling.schedule import NoiseSchedule
from model.weights.architecture import Architecture, Told, infer_architecture, official_state
from model.weights.class_names import (
    ClassNames,
    default_class_names,
    has_names,
    read_class_names,
)
from model.weights.config_files import JsonFile
from model.weights.contents.state_dicts import StateDict, find_state_dict, training_arguments
from model.weights.errors import CheckpointError, first_line
from model.weights.fitted_solvers import fitted_solvers_file, read_fitted_solvers
from model.weights.load_vae import default_vae_dtype, load_vae
from model.weights.presets import model_presets
from model.weights.schedules import check_training
from model.weights.sources import (
    OFFICIAL_VAE,
    OFFICIAL_VAE_CHANNELS,
    Report,
    Source,
    find_source,
    find_vae,
    local_path,
)
from model.weights.weight_files import WeightFiles, load_state
from model.weights.wordnet_ids import with_wordnet_ids


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model ready to sample: frozen, in eval mode, on its device and in its dtype.

    Attributes:
        class_names: by class id, the name, then its synonyms and its WordNet id where known.
        licence: of the transformer's weights; None if unknown.
        digest: SHA-256 in hex over the weight files and every number that affects the images.
        architecture: such as "DiT-XL/2".
        default_cfg_scale: the guidance that the model recommends; None if it recommends none.
        fitted: the solvers that were fitted to it.
        presets: how to sample it at each quality.
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
    fitted: tuple[FittedSolver, ...] = ()
    presets: Presets = field(default_factory=lambda: ANY_MODEL)

    @property
    def image_size(self) -> int:
        """Pixels along a side."""
        return self.dit.input_size * self.vae.downscale_factor

    @property
    def offers_ns(self) -> bool:
        """Whether sampler "ns" has tables for it."""
        return offers_ns(self.architecture, self.schedule)

    @property
    def fractional_timesteps(self) -> tuple[float, ...]:
        """The timesteps between the whole ones at which its samplers ask for the noise."""
        return fractional_timesteps() if self.offers_ns else ()

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
    num_heads: int | None = None,
    pinned: str | None = None,
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
        num_heads: attention heads, for a file that does not tell them.
        pinned: the digest that it must have.
        report: called with a line of text at each stage of loading.

    Raises:
        CheckpointError: a file is missing, broken or inconsistent, the digest is another one than is
            pinned, or the device's memory is full.
    """
    with _as_checkpoint_errors(source, device):
        found = find_source(source, report, revision)
        megabytes = f"{found.transformer.nbytes() / 1e6:.0f} MB"
        report(f"{found.name}: reading {megabytes} of weights from {found.transformer.path.name}")
        with ThreadPoolExecutor(2) as pool, found.transformer.held() as weights:
            dit_digest = pool.submit(weights.digest)  # hashing releases the GIL while they load
            dit, architecture = _load_dit(found, weights, num_heads, device, dtype, report)
            names = _class_names(found, classes, dit.num_classes, report)
            vae_folder = _vae_folder(found, vae, dit.in_channels, report)
            decoder, facts, vae_digest = _load_vae(found.name, vae_folder, device, dtype, report)
            digests = (dit_digest.result(), vae_digest)
        _check_channels(dit, decoder, vae_folder)
        digest = _digest([asdict(architecture), asdict(found.schedule), facts], *digests)
        _check_pin(source, digest, pinned)
        fitted = _fitted_solvers(found, digest)
        return Checkpoint(
            name=found.name,
            dit=dit,
            vae=decoder,
            schedule=found.schedule,
            class_names=with_wordnet_ids(names),
            licence=found.licence,
            digest=digest,
            architecture=architecture.name,
            default_cfg_scale=_default_cfg_scale(found),
            fitted=fitted,
            presets=model_presets(
                found.model_index,
                found.schedule,
                fitted,
                offers_ns=offers_ns(architecture.name, found.schedule),
            ),
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
    source: Source,
    weights: WeightFiles,
    num_heads: int | None,
    device: torch.device,
    dtype: torch.dtype,
    report: Report,
) -> tuple[DiT, Architecture]:
    content = weights.read()
    arguments = training_arguments(content)
    check_training(arguments, weights.path)
    found = find_state_dict(content, weights.path)
    _report_place(source.name, found, report)
    state = official_state(found.tensors, weights.path, source.config)
    weights.release()  # the conversion has read a part of them
    told = Told(source.config, num_heads, arguments)
    architecture = infer_architecture(state, weights.path, told)
    if source.config is None:
        size, heads = architecture.input_size, architecture.num_heads
        report(f"{source.name}: no config.json beside it: input_size {size}, {heads} heads")
    dit = architecture.build()
    load_state(dit, state, weights, device=device, dtype=dtype)
    return dit, architecture


def _report_place(name: str, found: StateDict, report: Report) -> None:
    if found.place or found.others:
        others = ", ".join(found.others[:3])
        instead = f", not those at {others}" if others else ""
        report(f"{name}: takes the weights at {found.place or 'the top'}{instead}")


def _load_vae(
    name: str, folder: Path, device: torch.device, dtype: torch.dtype, report: Report
) -> tuple[Vae, dict[str, object], bytes]:
    """The autoencoder, its config and its weights' digest."""
    config = JsonFile.read(folder / "config.json")
    files = WeightFiles.in_folder(folder)
    report(f"{name}: reading the autoencoder, {files.path}")
    with files.held() as weights:
        vae_dtype = default_vae_dtype(device, dtype)
        decoder = load_vae(config, weights, device=device, dtype=vae_dtype)
        return decoder, _vae_facts(config), weights.digest()


def _class_names(
    source: Source, classes: Path | None, num_classes: int, report: Report
) -> ClassNames:
    names = source.class_names if classes is None else read_class_names(local_path(classes))
    if names is None:
        names = default_class_names(num_classes)
        if not has_names(num_classes):
            unnamed = f"its {num_classes} classes have no names"
            report(f"{source.name}: {unnamed}: ask for them by id, or name them with DIT_CLASSES")
    if len(names) == num_classes:
        return names
    path = classes or (source.model_index.path if source.model_index else source.transformer.path)
    expected = f"the label table has {num_classes} and the null class"
    mend = "" if classes else "; give the names of these with DIT_CLASSES"
    raise CheckpointError(path, f"names {len(names)} classes, but {expected}{mend}")


def _default_cfg_scale(source: Source) -> float | None:
    """Read our own key from model_index.json; diffusers ignores it."""
    key = "default_cfg_scale"
    if source.model_index is None or key not in source.model_index.fields:
        return None
    scale = source.model_index.number(key, 1.0)
    if not MIN_CFG_SCALE <= scale <= MAX_CFG_SCALE:
        raise source.model_index.error(key, f"must be from {MIN_CFG_SCALE:g} to {MAX_CFG_SCALE:g}")
    return scale


def _fitted_solvers(source: Source, digest: str) -> tuple[FittedSolver, ...]:
    index = source.model_index
    file = fitted_solvers_file(source.transformer.path if index is None else index.path.parent)
    if not file.exists():
        return ()
    return read_fitted_solvers(file, digest=digest, schedule=source.schedule)


def _vae_folder(source: Source, vae: str | None, in_channels: int, report: Report) -> Path:
    if vae is not None:
        return find_vae(vae, report)
    if source.vae_folder is not None:
        if not source.vae_folder.is_dir():
            raise CheckpointError(
                source.vae_folder, "no such folder: name an autoencoder in DIT_VAE"
            )
        return source.vae_folder
    if in_channels != OFFICIAL_VAE_CHANNELS:
        problem = f"needs an autoencoder with {in_channels} latent channels: name one with DIT_VAE"
        raise CheckpointError(source.transformer.path, problem)
    report(f"{source.name}: has no autoencoder, taking {OFFICIAL_VAE} (DIT_VAE names another)")
    try:
        return find_vae(OFFICIAL_VAE, report)
    except CheckpointError as error:
        problem = f"has no autoencoder: name a folder with one in DIT_VAE ({error})"
        raise CheckpointError(source.transformer.path, problem) from error


def _check_channels(dit: DiT, vae: Vae, vae_folder: Path) -> None:
    if vae.latent_channels != dit.in_channels:
        expected = f"the transformer has {dit.in_channels}"
        problem = f"has {vae.latent_channels} latent channels, but {expected}"
        raise CheckpointError(vae_folder, problem)


def _vae_facts(config: JsonFile) -> dict[str, object]:
    """The fields of the autoencoder's config.json, without notes of where it was made."""
    notes = ("_diffusers_version", "_name_or_path")
    return {key: value for key, value in config.fields.items() if key not in notes}


def _check_pin(source: str, digest: str, pinned: str | None) -> None:
    if pinned not in (None, digest):
        problem = f"has the digest {digest}, but DIT_MODEL_SHA256 pins {pinned}"
        raise CheckpointError(source, f"{problem}: these are not the weights that were meant")


def _digest(facts: list[dict[str, object]], *weights: bytes) -> str:
    text = json.dumps(facts, sort_keys=True).encode()
    return hashlib.sha256(b"".join([hashlib.sha256(text).digest(), *weights])).hexdigest()
