"""Sources: finding the files of a model that the user names."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from model.sampling.schedule import NoiseSchedule
from model.weights.class_names import ClassNames, parse_class_names
from model.weights.config_files import JsonFile
from model.weights.errors import CheckpointError, first_line
from model.weights.hub.download import download, is_hub_id
from model.weights.schedules import read_schedule
from model.weights.weight_files import WeightFiles

BUNDLED = "bundled"
OFFICIAL_VAE = "stabilityai/sd-vae-ft-mse"
OFFICIAL_VAE_CHANNELS = 4

BUNDLED_FOLDER = Path(__file__).parents[1] / "bundled"
_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".tar", ".safetensors")
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
    path = local_path(source)
    is_local = source == BUNDLED or path.exists() or path.suffix in _SUFFIXES
    if revision is not None and is_local:
        raise CheckpointError(source, f"is not from the hub: it has no revision {revision}")
    if source == BUNDLED:
        return _pipeline_folder(BUNDLED, BUNDLED_FOLDER, report)
    if path.is_dir():
        _check_pipeline(path)
        return _pipeline_folder(path.resolve().name, path, report)
    if path.is_file() or path.suffix in _SUFFIXES:
        return _single_file(path, report)
    if not is_hub_id(source):
        raise CheckpointError(source, "is not a file, a folder or a hub id (owner/name)")
    root = _download(source, ("transformer", "vae"), report, revision)
    return _pipeline_folder(source, root, report)


def local_path(source: str | Path) -> Path:
    """A path as a shell would read it: a leading ~ is a home folder, also in an env file.

    Raises:
        CheckpointError: there is no such home folder, or the path is not UTF-8, as the libraries
            that read the files require.
    """
    try:
        str(source).encode()
        return Path(source).expanduser()
    except UnicodeEncodeError as error:
        raise CheckpointError(source, "is not a path in valid UTF-8") from error
    except RuntimeError as error:
        raise CheckpointError(source, f"cannot be found: {first_line(error)}") from error


def find_vae(source: str, report: Report) -> Path:
    """Find the folder of an autoencoder, given that folder, a pipeline's folder or a hub id.

    Raises:
        CheckpointError: the folder or repository does not exist or holds no autoencoder.
    """
    folder = local_path(source)
    if folder.is_file() or folder.suffix in _SUFFIXES:
        problem = "is a file" if folder.is_file() else "no such file"
        whole = (
            "must be the folder that holds an autoencoder's config.json and weights, or a hub id"
        )
        raise CheckpointError(source, f"{problem}; DIT_VAE {whole}")
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


def _pipeline_folder(name: str, folder: Path, report: Report) -> Source:
    """A folder in the layout of diffusers' DiTPipeline."""
    model_index = JsonFile.read(folder / "model_index.json")
    if model_index.fields.get("_class_name") != "DiTPipeline":
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
        schedule=read_schedule(folder / "scheduler" / "scheduler_config.json", model_index, report),
        class_names=None if labels is None else parse_class_names(labels, model_index.path),
        licence=_read_licence(name, folder / "README.md"),
    )


def _check_pipeline(folder: Path) -> None:
    """Refuse a folder of something else, and say what DIT_MODEL could be instead."""
    if (folder / "model_index.json").exists():
        return
    files = sorted(path.name for path in folder.iterdir() if path.suffix in _SUFFIXES)
    problem = "is not a DiTPipeline folder: it has no model_index.json"
    if files:
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        problem += f"; to serve a file in it, name the file: {', '.join(files[:3])[:160]}{more}"
    raise CheckpointError(folder, problem)


def _single_file(path: Path, report: Report) -> Source:
    """A file of weights, or the index of its shards, and a config.json beside it."""
    is_index = path.name.endswith(".index.json")
    if path.suffix not in _SUFFIXES and not is_index:
        raise CheckpointError(path, f"must end in one of {', '.join(_SUFFIXES)}")
    config_path = path.with_name("config.json")
    config = JsonFile.read(config_path) if config_path.is_file() else None
    if config is not None and not _is_beside_config(config):
        report(f"{config_path}: not used, for it describes another model")
        config = None
    weights = WeightFiles.from_index(path) if is_index else WeightFiles.from_file(path)
    return Source(name=path.name, transformer=weights, config=config)


def _is_transformer_config(config: JsonFile) -> bool:
    return config.fields.get("_class_name") in _TRANSFORMER_CLASSES


def _is_beside_config(config: JsonFile) -> bool:
    """Whether a config.json beside a file is the DiT's: of diffusers, or of no library at all."""
    others = ("_class_name", "model_type", "architectures", "architecture")
    return _is_transformer_config(config) or not any(key in config.fields for key in others)


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
