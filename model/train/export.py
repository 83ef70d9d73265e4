"""Export: a run's autoencoder and averaged DiT as a folder for diffusers' DiTPipeline.

    python -m model.train.export --data PHOTOGRAPHS --run RUN --out FOLDER

The service serves the folder as it is: DIT_MODEL=FOLDER. The class names are those of the class
folders; further names for them may stand in a JSON map from name to names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel
from torch import Tensor

from model.networks.dit import DiT
from model.sampling.schedule import NoiseSchedule
from model.train.data.photographs import class_names
from model.train.options import command_parser
from model.train.transformer import DOWNSCALE_FREQ_SHIFT
from model.weights.diffusers_names import to_diffusers

CARD = """---
license: {licence}
library_name: diffusers
---

# A class-conditional DiT of {classes} classes

{size} px pictures. `transformer/config.json` says `"downscale_freq_shift": {freq_shift}`: the
timestep frequencies are those of diffusers, not of the official DiT code.
"""


def averaged_dit(run: Path) -> DiT:
    """The averaged weights in the trainer's state, at any point of the run.

    Raises:
        FileNotFoundError: there is no such file.
    """
    state_file = run / "transformer.state.pt"
    state: dict[str, Tensor] = torch.load(state_file, weights_only=True, map_location="cpu")["ema"]
    facts: dict[str, Any] = json.loads((run / "transformer.json").read_text())
    dit = DiT(**facts)
    dit.load_state_dict(state)
    return dit.eval().requires_grad_(False)


def trained_autoencoder(folder: Path) -> AutoencoderKL:
    """The autoencoder in diffusers' layout; unlike from_pretrained's own, its config names no folder.

    Raises:
        OSError: there is no autoencoder.
    """
    loaded = AutoencoderKL.from_pretrained(folder)
    config = {name: value for name, value in loaded.config.items() if not name.startswith("_")}
    vae = AutoencoderKL.from_config(config)
    vae.load_state_dict(loaded.state_dict())
    return vae.eval()


def as_diffusers(dit: DiT) -> DiTTransformer2DModel:
    """The same network as diffusers' DiTTransformer2DModel, its own config and one key beside."""
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
    names: dict[str, list[str]],
    out: Path,
    *,
    licence: str,
    default_cfg_scale: float | None = None,
) -> None:
    """Write the folder, in fp16. A README.md that is there already stays.

    Args:
        dit: its weights become fp16 in the file alone.
        vae: becomes fp16.
        names: by class in the order of the labels: its name -> further names for it.
        out: the folder, made where it is missing.
        licence: of the weights, as model cards on the hub spell it.
        default_cfg_scale: the guidance to recommend to whoever serves the model.
    """
    noise_schedule = NoiseSchedule()
    scheduler = DDIMScheduler(
        num_train_timesteps=noise_schedule.num_train_timesteps,
        beta_start=noise_schedule.beta_start,
        beta_end=noise_schedule.beta_end,
        clip_sample=False,
    )
    pipeline = DiTPipeline(as_diffusers(dit), vae, scheduler).to(torch.float16)
    labels = {str(i): ", ".join([name, *more]) for i, (name, more) in enumerate(names.items())}
    pipeline.register_to_config(id2label=labels)
    if default_cfg_scale is not None:
        pipeline.register_to_config(default_cfg_scale=default_cfg_scale)
    pipeline.save_pretrained(out)
    for weights in out.glob("*/*.safetensors"):
        weights.chmod(0o644)  # written for the owner alone, which a container's user is not
    card = out / "README.md"
    if not card.exists():
        size = dit.input_size * 2 ** (len(vae.config.block_out_channels) - 1)
        facts = {"licence": licence, "classes": dit.num_classes, "size": size}
        card.write_text(CARD.format(freq_shift=DOWNSCALE_FREQ_SHIFT, **facts), encoding="utf-8")


def main() -> None:
    parser = command_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of class folders")
    parser.add_argument("--run", type=Path, required=True, help="the run's folder")
    parser.add_argument("--vae", type=Path, help="the autoencoder's folder: default RUN/vae")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--synonyms", type=Path, help="JSON map: class name -> list of names")
    parser.add_argument("--licence", default="unknown", help="of the weights, as the hub spells it")
    parser.add_argument("--default-cfg-scale", type=float, help="the guidance to recommend")
    options = parser.parse_args()
    synonyms = json.loads(options.synonyms.read_text()) if options.synonyms else {}
    names = {name: synonyms.get(name, []) for name in class_names(options.data)}
    dit = averaged_dit(options.run)
    vae = trained_autoencoder(options.vae or options.run / "vae")
    export(
        dit,
        vae,
        names,
        options.out,
        licence=options.licence,
        default_cfg_scale=options.default_cfg_scale,
    )


if __name__ == "__main__":
    main()
