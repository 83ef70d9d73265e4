"""Sources: from what a user may name as the model to the files that make it up."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from model.sampling.schedule import NoiseSchedule
from model.weights.class_names import ClassNames, class_names
from model.weights.config_files import JsonFile
from model.weights.errors import CheckpointError
from model.weights.files import Weights
from model.weights.hub import download, is_hub_id

BUNDLED = "bundled"
OFFICIAL_VAE = "stabilityai/sd-vae-ft-mse"
OFFICIAL_VAE_CHANNELS = 4

_BUNDLED_FOLDER = Path(__file__).parents[1] / "bundled"
_FILE_KINDS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
_HUB_LICENCES = {"facebook/DiT": "CC-BY-NC-4.0"}
_SPELLINGS = {"apache-2.0": "Apache-2.0", "openrail": "OpenRAIL", "unknown": None, "other": None}
_TRANSFORMERS = ("DiTTransformer2DModel", "Transformer2DModel")
_LICENCE = re.compile(r"^license:[ \t]*[\"']?([\w.+-]+)", re.MULTILINE)

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Source:
    """A model's files, its weights found but not read.

    ``config`` is the transformer's config.json and ``index`` the pipeline's model_index.json;
    ``vae_folder`` is None where the source has no autoencoder.
    """

    name: str
    transformer: Weights
    config: JsonFile | None = None
    index: JsonFile | None = None
    vae_folder: Path | None = None
    schedule: NoiseSchedule = field(default_factory=NoiseSchedule)
    class_names: ClassNames | None = None
    licence: str | None = None


def find_source(source: str, report: Report) -> Source:
    """Find a model, downloading it where it is a hub id that is not cached.

    Raises:
        CheckpointError: there is no such thing, or a part of it is missing.
    """
    if source == BUNDLED:
        return _pipeline(BUNDLED, _BUNDLED_FOLDER)
    path = Path(source)
    if path.is_dir():
        return _pipeline(path.resolve().name, path)
    if path.is_file() or path.suffix in _FILE_KINDS:
        return _single_file(path)
    if not is_hub_id(source):
        raise CheckpointError(source, "neither a file nor a folder, and not spelled as a hub id")
    report(f"{source}: looking on the hub")
    return _pipeline(source, download(source, ("transformer", "vae")))


def find_vae(source: str, report: Report) -> Path:
    """The folder of an autoencoder named on its own, or of one inside a pipeline.

    Raises:
        CheckpointError: there is no such thing, or it is no autoencoder.
    """
    folder = Path(source)
    if not folder.is_dir():
        if not is_hub_id(source):
            raise CheckpointError(source, "not a folder, and not spelled as a hub id")
        report(f"{source}: looking on the hub")
        folder = download(source, (".", "vae"))
    for candidate in (folder / "vae", folder):
        if (candidate / "config.json").is_file():
            return candidate
    raise CheckpointError(source, "has no config.json of an autoencoder")


def _pipeline(name: str, folder: Path) -> Source:
    """A folder in the layout of diffusers' DiTPipeline."""
    index = JsonFile.read(folder / "model_index.json")
    if index.text("_class_name") != "DiTPipeline":
        raise index.wrong("_class_name", 'must be "DiTPipeline"')
    labels = index.fields.get("id2label")
    config = JsonFile.read(folder / "transformer" / "config.json")
    if not _is_transformer(config):
        raise config.wrong("_class_name", f"must be {_TRANSFORMERS[0]}")
    return Source(
        name=name,
        transformer=Weights.in_folder(folder / "transformer"),
        config=config,
        index=index,
        vae_folder=folder / "vae",
        schedule=_schedule(folder / "scheduler" / "scheduler_config.json"),
        class_names=None if labels is None else class_names(labels, index.path),
        licence=_licence(name, folder / "README.md"),
    )


def _single_file(path: Path) -> Source:
    if path.suffix not in _FILE_KINDS:
        raise CheckpointError(path, f"must end in one of {', '.join(_FILE_KINDS)}")
    beside = path.with_name("config.json")
    config = JsonFile.read(beside) if beside.is_file() else None
    if config is not None and not _is_transformer(config):
        config = None  # something else's, in the same folder
    return Source(name=path.name, transformer=Weights.of_file(path), config=config)


def _is_transformer(config: JsonFile) -> bool:
    return config.fields.get("_class_name") in _TRANSFORMERS


def _schedule(path: Path) -> NoiseSchedule:
    """Read diffusers' scheduler_config.json, refusing what our samplers do not do.

    clip_sample is not read: it is on by default in diffusers and means pixels, never latents.
    """
    config = JsonFile.read(path)
    config.demand("beta_schedule", "linear")
    config.demand("prediction_type", "epsilon")
    config.demand("trained_betas", None)
    for key in ("thresholding", "rescale_betas_zero_snr"):
        config.demand(key, False)
    default = NoiseSchedule()
    schedule = NoiseSchedule(
        config.integer("num_train_timesteps", default.num_train_timesteps, low=2, high=100_000),
        config.number("beta_start", default.beta_start),
        config.number("beta_end", default.beta_end),
    )
    if not 0 < schedule.beta_start <= schedule.beta_end < 1:
        raise CheckpointError(path, "must have 0 < beta_start <= beta_end < 1")
    return schedule


def _licence(name: str, card: Path) -> str | None:
    """The licence in a model card's front matter, or what is known of a hub id."""
    for prefix, licence in _HUB_LICENCES.items():
        if name.startswith(f"{prefix}-"):
            return licence
    if not card.is_file():
        return None
    text = card.read_text(encoding="utf-8", errors="replace")
    front_matter = text[4:].partition("\n---")[0] if text.startswith("---\n") else ""
    found = _LICENCE.search(front_matter)
    return _SPELLINGS.get(found[1], found[1].upper()) if found else None
