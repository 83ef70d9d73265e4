"""Sources: finding the files of a model that the user names."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from model.sampling.schedule import NoiseSchedule
from model.weights.class_names import ClassNames, parse_class_names
from model.weights.config_files import JsonFile
from model.weights.errors import CheckpointError
from model.weights.hub import download, is_hub_id
from model.weights.weight_files import WeightFiles

BUNDLED = "bundled"
OFFICIAL_VAE = "stabilityai/sd-vae-ft-mse"
OFFICIAL_VAE_CHANNELS = 4

_BUNDLED_FOLDER = Path(__file__).parents[1] / "bundled"
_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
_KNOWN_LICENCES = {"facebook/DiT-": "CC-BY-NC-4.0"}  # by the start of the hub id
_LICENCE_NAMES = {
    "apache-2.0": "Apache-2.0",
    "openrail": "OpenRAIL",
    "unknown": None,
    "other": None,
}
_TRANSFORMER_CLASSES = ("DiTTransformer2DModel", "Transformer2DModel")
_LICENCE_LINE = re.compile(r"^license:[ \t]*[\"']?([\w.+-]+)", re.MULTILINE)

Report = Callable[[str], None]
"""Takes one line of text about the progress of loading."""


@dataclass(frozen=True, slots=True)
class Source:
    """The files of a model. The weights are found but not read yet.

    ``config`` is the transformer's config.json and ``model_index`` the pipeline's
    model_index.json. ``vae_folder`` is None if the source has no autoencoder.
    """

    name: str
    transformer: WeightFiles
    config: JsonFile | None = None
    model_index: JsonFile | None = None
    vae_folder: Path | None = None
    schedule: NoiseSchedule = field(default_factory=NoiseSchedule)
    class_names: ClassNames | None = None
    licence: str | None = None


def find_source(source: str, report: Report, revision: str | None = None) -> Source:
    """Find a model; a hub id is downloaded unless it is cached.

    Args:
        revision: a branch, tag or commit on the hub; the main branch by default.

    Raises:
        CheckpointError: the model does not exist, or a file of it is missing or invalid.
    """
    path = Path(source)
    is_local = source == BUNDLED or path.exists() or path.suffix in _SUFFIXES
    if revision is not None and is_local:
        raise CheckpointError(source, f"is not from the hub: it has no revision {revision}")
    if source == BUNDLED:
        return _pipeline_folder(BUNDLED, _BUNDLED_FOLDER)
    if path.is_dir():
        return _pipeline_folder(path.resolve().name, path)
    if path.is_file() or path.suffix in _SUFFIXES:
        return _single_file(path)
    if not is_hub_id(source):
        raise CheckpointError(source, "is not a file, a folder or a hub id (owner/name)")
    return _pipeline_folder(source, _download(source, ("transformer", "vae"), report, revision))


def find_vae(source: str, report: Report) -> Path:
    """Find the folder of an autoencoder, given that folder, a pipeline's folder or a hub id.

    Raises:
        CheckpointError: the folder or repository does not exist or holds no autoencoder.
    """
    folder = Path(source)
    if not folder.is_dir():
        if not is_hub_id(source):
            raise CheckpointError(source, "is not a folder or a hub id (owner/name)")
        folder = _download(source, (".", "vae"), report)
    for candidate in (folder / "vae", folder):
        if (candidate / "config.json").is_file():
            return candidate
    raise CheckpointError(source, "holds no autoencoder: no config.json or vae/config.json")


def _download(
    source: str, folders: tuple[str, ...], report: Report, revision: str | None = None
) -> Path:
    """Download a repository. It may have been meant as a folder, so errors name both."""
    report(f"{source}: looking on the hub")
    try:
        root = download(source, folders, revision=revision, report=report)
    except CheckpointError as error:
        problem = str(error).removeprefix(f"{source}: ")
        problem = f"no folder {source} here; tried as a hub id: {problem}"
        raise CheckpointError(source, problem) from error
    report(f"using commit {root.name} of {source}" + (f" ({revision})" if revision else ""))
    return root


def _pipeline_folder(name: str, folder: Path) -> Source:
    """A folder in the layout of diffusers' DiTPipeline."""
    model_index = JsonFile.read(folder / "model_index.json")
    if model_index.string("_class_name") != "DiTPipeline":
        raise model_index.error("_class_name", 'must be "DiTPipeline"')
    labels = model_index.fields.get("id2label")
    config = JsonFile.read(folder / "transformer" / "config.json")
    if not _is_transformer_config(config):
        raise config.error("_class_name", f'must be "{_TRANSFORMER_CLASSES[0]}"')
    return Source(
        name=name,
        transformer=WeightFiles.in_folder(folder / "transformer"),
        config=config,
        model_index=model_index,
        vae_folder=folder / "vae",
        schedule=_read_schedule(folder / "scheduler" / "scheduler_config.json"),
        class_names=None if labels is None else parse_class_names(labels, model_index.path),
        licence=_read_licence(name, folder / "README.md"),
    )


def _single_file(path: Path) -> Source:
    if path.suffix not in _SUFFIXES:
        raise CheckpointError(path, f"must end in one of {', '.join(_SUFFIXES)}")
    config_path = path.with_name("config.json")
    config = JsonFile.read(config_path) if config_path.is_file() else None
    if config is not None and not _is_transformer_config(config):
        config = None  # another model's
    return Source(name=path.name, transformer=WeightFiles.from_file(path), config=config)


def _is_transformer_config(config: JsonFile) -> bool:
    return config.fields.get("_class_name") in _TRANSFORMER_CLASSES


def _read_schedule(path: Path) -> NoiseSchedule:
    """Read diffusers' scheduler_config.json and refuse what our samplers do not support.

    clip_sample is ignored: it is on by default in diffusers, but is meant for pixels, not latents.
    """
    config = JsonFile.read(path)
    config.require("beta_schedule", "linear")
    config.require("prediction_type", "epsilon")
    config.require("trained_betas", None)
    for key in ("thresholding", "rescale_betas_zero_snr"):
        config.require(key, False)
    default = NoiseSchedule()
    schedule = NoiseSchedule(
        config.integer("num_train_timesteps", default.num_train_timesteps, low=2, high=100_000),
        config.number("beta_start", default.beta_start),
        config.number("beta_end", default.beta_end),
    )
    if not 0 < schedule.beta_start <= schedule.beta_end < 1:
        raise CheckpointError(path, "must have 0 < beta_start <= beta_end < 1")
    return schedule


def _read_licence(name: str, card: Path) -> str | None:
    """The licence we know for a hub id, else the one in the model card's front matter."""
    for prefix, licence in _KNOWN_LICENCES.items():
        if name.startswith(prefix):
            return licence
    if not card.is_file():
        return None
    text = card.read_text(encoding="utf-8", errors="replace")
    front_matter = text[4:].partition("\n---")[0] if text.startswith("---\n") else ""
    found = _LICENCE_LINE.search(front_matter)
    return _LICENCE_NAMES.get(found[1], found[1].upper()) if found else None
