"""Export a trained run as a model folder in the layout of diffusers' DiTPipeline.

    python -m model.train.export --data PHOTOGRAPHS --run RUN --out FOLDER

The service can serve the folder: DIT_MODEL=FOLDER. Classes are named after the class folders; a JSON
file can give synonyms.
"""

from __future__ import annotations

import argparse
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel
from torch import Tensor

from model.networks.dit import DiT
from model.sampling.schedule import NoiseSchedule
from model.train.data.photographs import class_names
from model.train.network import DOWNSCALE_FREQ_SHIFT, NetworkSpec
from model.train.options import (
    add_data_option,
    add_licence_option,
    command_parser,
    named_errors,
)
from model.train.transformer import NETWORK_FILE, STATE_FILE
from model.weights.config_files import JsonFile
from model.weights.diffusers_names import to_diffusers

CARD = """---
license: {licence}
library_name: diffusers
---

# A class-conditional DiT of {classes} classes

Draws {size} x {size} pictures. `transformer/config.json` has `"downscale_freq_shift": {freq_shift}`: the
timestep frequencies are those of diffusers, not those of the official DiT code.
"""


def averaged_dit(run: Path) -> DiT:
    """The averaged weights of a run's last saved state; the run need not have ended.

    Raises:
        FileNotFoundError: the folder holds no run.
    """
    state = torch.load(run / STATE_FILE, weights_only=True, map_location="cpu")
    weights: dict[str, Tensor] = state["ema"]
    dit = NetworkSpec.read(run / NETWORK_FILE).build()
    dit.load_state_dict(weights)
    return dit.eval().requires_grad_(False)


def trained_autoencoder(folder: Path) -> AutoencoderKL:
    """The autoencoder in a folder. Its config, unlike that of from_pretrained, does not name the folder.

    Raises:
        OSError: the folder holds no autoencoder.
    """
    loaded = AutoencoderKL.from_pretrained(folder)
    config = {name: value for name, value in loaded.config.items() if not name.startswith("_")}
    vae = AutoencoderKL.from_config(config)
    vae.load_state_dict(loaded.state_dict())
    return vae.eval()


def as_diffusers(dit: DiT) -> DiTTransformer2DModel:
    """The same network as diffusers' DiTTransformer2DModel, with downscale_freq_shift in its config."""
    hidden_size = dit.pos_embed.shape[-1]
    transformer = DiTTransformer2DModel(
        num_attention_heads=dit.num_heads,
        attention_head_dim=hidden_size // dit.num_heads,
        in_channels=dit.in_channels,
        out_channels=dit.out_channels,
        num_layers=len(dit.blocks),
        sample_size=dit.input_size,
        patch_size=dit.patch_size,
        num_embeds_ada_norm=dit.num_classes,
        norm_eps=1e-6,
    )
    transformer.register_to_config(downscale_freq_shift=DOWNSCALE_FREQ_SHIFT)
    transformer.load_state_dict(to_diffusers(dit.state_dict()))
    return transformer.eval()


def export(
    dit: DiT,
    vae: AutoencoderKL,
    names: Mapping[str, Sequence[str]],
    *,
    out: Path,
    licence: str,
    default_cfg_scale: float | None = None,
) -> None:
    """Write the folder, with weights in fp16. An existing README.md is kept.

    Args:
        dit: the transformer; unchanged.
        vae: the autoencoder; converted to fp16 in place.
        names: class name -> synonyms, in the order of the labels.
        out: the folder, created if missing.
        licence: of the weights, as spelled in model cards on the hub.
        default_cfg_scale: the guidance that a service should use by default.
    """
    pipeline = DiTPipeline(as_diffusers(dit), vae, _scheduler()).to(torch.float16)
    labels = {
        str(label): ", ".join([name, *synonyms])
        for label, (name, synonyms) in enumerate(names.items())
    }
    pipeline.register_to_config(id2label=labels)
    if default_cfg_scale is not None:
        pipeline.register_to_config(default_cfg_scale=default_cfg_scale)
    pipeline.save_pretrained(out)
    for weights in out.glob("*/*.safetensors"):
        weights.chmod(0o644)  # written readable by the owner only; a container runs as another user
    card = out / "README.md"
    if not card.exists():
        text = CARD.format(
            licence=licence,
            classes=dit.num_classes,
            size=dit.input_size * 2 ** (len(vae.config.block_out_channels) - 1),
            freq_shift=DOWNSCALE_FREQ_SHIFT,
        )
        card.write_text(text, encoding="utf-8")


def _scheduler() -> DDIMScheduler:
    schedule = NoiseSchedule()
    return DDIMScheduler(
        num_train_timesteps=schedule.num_train_timesteps,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        clip_sample=False,
    )


def _read_synonyms(file: Path) -> dict[str, list[str]]:
    """Further names by class name.

    Raises:
        ValueError: the file holds something else; the message names it.
    """
    config = JsonFile.read(file)
    synonyms: dict[str, list[str]] = {}
    for name, further in config.fields.items():
        if not isinstance(further, list) or not all(isinstance(each, str) for each in further):
            raise config.error(name, "must be a list of names")
        synonyms[name] = further
    return synonyms


def main() -> None:
    parser = command_parser("model.train.export", __doc__)
    add_data_option(parser)
    parser.add_argument(
        "--run", type=Path, required=True, metavar="FOLDER", help="the run's folder"
    )
    parser.add_argument(
        "--vae", type=Path, metavar="FOLDER", help="the autoencoder's folder (default RUN/vae)"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="the model folder to write"
    )
    parser.add_argument(
        "--synonyms",
        type=Path,
        metavar="FILE",
        help="JSON file that maps class names to lists of further names",
    )
    add_licence_option(parser)
    parser.add_argument(
        "--default-cfg-scale",
        type=float,
        metavar="SCALE",
        help="guidance that the service uses by default (default: none recommended)",
    )
    options = parser.parse_args()
    with named_errors("export"):
        run(options)


def run(options: argparse.Namespace) -> None:
    """Export as the options say."""
    synonyms = _read_synonyms(options.synonyms) if options.synonyms else {}
    export(
        averaged_dit(options.run),
        trained_autoencoder(options.vae or options.run / "vae"),
        {
            name: synonyms.get(unicodedata.normalize("NFC", name), [])
            for name in class_names(options.data)
        },
        out=options.out,
        licence=options.licence,
        default_cfg_scale=options.default_cfg_scale,
    )


if __name__ == "__main__":
    main()
