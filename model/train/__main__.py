"""The whole recipe: a folder of class folders -> a folder that the service serves.

    python -m model.train --data PHOTOGRAPHS --out FOLDER

Autoencoder, its decoder wider and textured, DiT, export, one after the other; stopped at any point
and started again, it goes on where it was. ``--vae`` takes a trained autoencoder as it is in place of the
first two.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from accelerate import Accelerator

from model.train import transformer
from model.train.autoencoder import autoencoder, decoder
from model.train.data.latents import training_latents
from model.train.data.photographs import Photographs, load_photographs
from model.train.export import averaged_dit, export, trained_autoencoder
from model.train.options import accelerator_of, command_parser, data_options
from model.train.trainer import Schedule, share


def options_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    data_options(parser)
    parser.add_argument("--out", type=Path, required=True, help="the folder to be served")
    parser.add_argument("--run", type=Path, help="the trainings' states: default OUT.run")
    parser.add_argument("--vae", type=Path, help="a trained AutoencoderKL's folder")
    parser.add_argument(
        "--network", choices=transformer.NETWORKS, default=transformer.SMALL, help="the DiT's size"
    )
    parser.add_argument("--autoencoder-steps", type=int, default=autoencoder.STEPS)
    parser.add_argument(
        "--wide-steps", type=int, default=decoder.WIDE_STEPS, help="0: the decoder stays as narrow"
    )
    parser.add_argument(
        "--textured-steps", type=int, default=decoder.TEXTURED_STEPS, help="0: no discriminator"
    )
    parser.add_argument("--transformer-steps", type=int, default=transformer.STEPS)
    transformer.begin_option(parser)
    autoencoder.latent_options(parser)
    parser.add_argument("--autoencoder-batch-size", type=int, default=autoencoder.BATCH_SIZE)
    parser.add_argument("--batch-size", type=int, default=transformer.BATCH_SIZE, help="the DiT's")
    parser.add_argument("--licence", default="unknown", help="of the weights, as the hub spells it")
    parser.add_argument("--default-cfg-scale", type=float, default=2.0, help="default 2")
    return parser


def trained_vae(
    photographs: Photographs, options: argparse.Namespace, accelerator: Accelerator
) -> Path:
    """The folder of the autoencoder that is given, or of one trained here."""
    if options.vae is not None:
        return Path(options.vae)
    schedule = Schedule(options.autoencoder_steps, autoencoder.LEARNING_RATE, seed=options.seed)
    batch_size = options.autoencoder_batch_size
    shape = autoencoder.latent_shape(options)
    autoencoder.train(photographs, schedule, batch_size, options.run, accelerator, shape)
    return Path(options.run / "vae")


def check(options: argparse.Namespace, accelerator: Accelerator) -> None:
    """See early what would otherwise end a long training.

    Raises:
        ValueError: a batch does not divide into the processes, there is no autoencoder, or the model to
            begin with cannot be loaded.
    """
    if options.begin_with is not None:
        transformer.trained_dit(options.begin_with)
    share(options.batch_size, accelerator)
    if options.vae is None:
        share(options.autoencoder_batch_size, accelerator)
    elif not (options.vae / "config.json").is_file():
        raise ValueError(f"--vae {options.vae} holds no config.json of an autoencoder")
    else:
        trained_autoencoder(options.vae)


def main() -> None:
    try:
        train(options_parser().parse_args())
    except ValueError as error:
        sys.exit(f"cannot train: {error}")


def train(options: argparse.Namespace) -> None:
    options.run = options.run or options.out.with_name(options.out.name + ".run")
    accelerator = accelerator_of(options)
    check(options, accelerator)
    photographs = load_photographs(options.data, options.image_size, options.leave_out)
    vae = trained_vae(photographs, options, accelerator)
    images, labels = photographs.part(held_out=False)
    latents = training_latents(images, vae, options.run / "latents.pt", accelerator)
    if options.vae is None:
        batch_size = options.autoencoder_batch_size
        of_decoder = decoder.Plan(
            options.wide_steps, options.textured_steps, batch_size, options.seed
        )
        examples = decoder.Examples(images, labels, latents)
        vae = decoder.train(examples, vae, of_decoder, options.run, accelerator)
    plan = transformer.Plan(
        options.network,
        options.transformer_steps,
        batch_size=options.batch_size,
        seed=options.seed,
        begin_with=options.begin_with,
    )
    transformer.train(latents, labels, plan, options.run, accelerator)
    if accelerator.is_main_process:
        export(
            averaged_dit(options.run),
            trained_autoencoder(vae),
            {name: [] for name in photographs.class_names},
            options.out,
            licence=options.licence,
            default_cfg_scale=options.default_cfg_scale,
        )
        print(f"serve it: DIT_MODEL={options.out} make run")


if __name__ == "__main__":
    main()
