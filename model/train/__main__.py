"""Train a model on your own photographs, from a folder of pictures to a folder that can be served.

    python -m model.train --data PHOTOGRAPHS --out FOLDER

Trains an autoencoder, its decoder (wider, then textured) and a DiT, and exports them. After an
interruption, run the same command again and it continues where it stopped. With --vae, a trained
autoencoder is used unchanged, and only the DiT is trained.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from accelerate import Accelerator

from model.train import transformer
from model.train.autoencoder import decoder, training
from model.train.autoencoder.options import add_latent_options, latent_shape
from model.train.data.latents import training_latents
from model.train.data.photographs import Photographs, photographs_from
from model.train.export import averaged_dit, export, trained_autoencoder
from model.train.options import (
    accelerator_from,
    add_count_option,
    add_licence_option,
    add_training_options,
    command_parser,
)
from model.train.pretrained import load_pretrained
from model.train.trainer import Schedule, local_batch_size


def options_parser() -> argparse.ArgumentParser:
    parser = command_parser("model.train", __doc__)
    add_training_options(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="the model folder to write"
    )
    parser.add_argument(
        "--run",
        type=Path,
        metavar="FOLDER",
        help="folder for intermediate state (default: that of --out with .run appended)",
    )
    parser.add_argument(
        "--vae",
        type=Path,
        metavar="FOLDER",
        help="folder of a trained AutoencoderKL to use instead of training one",
    )
    transformer.add_network_options(parser)
    add_count_option(
        parser,
        "--autoencoder-steps",
        default=training.STEPS,
        help="training steps of the autoencoder",
    )
    decoder.add_decoder_options(parser)
    add_count_option(
        parser, "--transformer-steps", default=transformer.STEPS, help="training steps of the DiT"
    )
    add_latent_options(parser)
    add_count_option(
        parser,
        "--autoencoder-batch-size",
        default=training.BATCH_SIZE,
        help="autoencoder's batch size over all processes",
    )
    add_count_option(
        parser,
        "--batch-size",
        default=transformer.BATCH_SIZE,
        help="DiT's batch size over all processes",
    )
    add_licence_option(parser)
    parser.add_argument(
        "--default-cfg-scale",
        type=float,
        default=2.0,
        metavar="SCALE",
        help="guidance that the service uses by default (default %(default)s)",
    )
    return parser


def check(options: argparse.Namespace, accelerator: Accelerator) -> None:
    """Find early what would otherwise end a long training.

    Raises:
        ValueError: a batch size is not divisible by the number of processes, or a model or
            autoencoder that the options name cannot be loaded.
    """
    if options.begin_with is not None:
        load_pretrained(options.begin_with)
    local_batch_size(options.batch_size, accelerator)
    if options.vae is None:
        local_batch_size(options.autoencoder_batch_size, accelerator)
    elif not (options.vae / "config.json").is_file():
        raise ValueError(f"--vae {options.vae} has no config.json of an autoencoder")
    else:
        trained_autoencoder(options.vae)


def train_autoencoder(
    photographs: Photographs, options: argparse.Namespace, accelerator: Accelerator
) -> Path:
    """Train the autoencoder and return its folder."""
    training.train(
        photographs,
        Schedule(options.autoencoder_steps, training.LEARNING_RATE, seed=options.seed),
        batch_size=options.autoencoder_batch_size,
        out=options.run,
        accelerator=accelerator,
        shape=latent_shape(options),
    )
    return Path(options.run / training.FOLDER)


def train_decoder(
    examples: decoder.Examples,
    vae_folder: Path,
    options: argparse.Namespace,
    accelerator: Accelerator,
) -> Path:
    """Train the decoder further and return the folder of the autoencoder that has it."""
    plan = decoder.Plan(
        wide_steps=options.wide_steps,
        textured_steps=options.textured_steps,
        batch_size=options.autoencoder_batch_size,
        seed=options.seed,
    )
    return decoder.train(examples, vae_folder, plan, out=options.run, accelerator=accelerator)


def train_transformer(
    examples: decoder.Examples, options: argparse.Namespace, accelerator: Accelerator
) -> None:
    plan = transformer.Plan(
        network=options.network,
        steps=options.transformer_steps,
        batch_size=options.batch_size,
        seed=options.seed,
        begin_with=options.begin_with,
    )
    transformer.train(
        examples.latents, examples.labels, plan, out=options.run, accelerator=accelerator
    )


def train(options: argparse.Namespace) -> None:
    """Train everything and write the model folder.

    Raises:
        ValueError: the options or the photographs do not allow it.
    """
    options.run = options.run or options.out.with_name(options.out.name + ".run")
    accelerator = accelerator_from(options)
    check(options, accelerator)
    photographs = photographs_from(options)
    vae_folder = options.vae or train_autoencoder(photographs, options, accelerator)
    images, labels = photographs.part(held_out=False)
    latents = training_latents(images, vae_folder, options.run / "latents.pt", accelerator)
    examples = decoder.Examples(images, labels, latents)
    if options.vae is None:
        vae_folder = train_decoder(examples, vae_folder, options, accelerator)
    train_transformer(examples, options, accelerator)
    if accelerator.is_main_process:
        export(
            averaged_dit(options.run),
            trained_autoencoder(vae_folder),
            {name: [] for name in photographs.class_names},
            out=options.out,
            licence=options.licence,
            default_cfg_scale=options.default_cfg_scale,
        )
        print(f"serve it: DIT_MODEL={options.out} make run")


def main() -> None:
    try:
        train(options_parser().parse_args())
    except ValueError as error:
        sys.exit(f"cannot train: {error}")


if __name__ == "__main__":
    main()
