"""Train a model on your own photographs, from a folder of pictures to a folder that can be served.

    python -m model.train --data PHOTOGRAPHS --out FOLDER

Trains an autoencoder, its decoder (wider, then textured) and a DiT, and exports them. After an
interruption, run the same command again and it continues where it stopped; with other options, a stage
that they change is refused. With --vae, a trained autoencoder is used unchanged, and only the DiT is
trained.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
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
    named_errors,
)
from model.train.pretrained import load_pretrained
from model.train.run_folder import exclusive
from model.train.stages import AUTOENCODER, TEXTURED, TRANSFORMER, WIDE, Settings, Stages
from model.train.trainer import Schedule, local_batch_size, saved_settings

OPTIONS = {
    AUTOENCODER: {"steps": "--autoencoder-steps", "batch_size": "--autoencoder-batch-size"},
    WIDE: {"steps": "--wide-steps", "batch_size": "--autoencoder-batch-size"},
    TEXTURED: {"steps": "--textured-steps", "batch_size": "--autoencoder-batch-size"},
    TRANSFORMER: {"steps": "--transformer-steps"},
}


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


def stages_of(options: argparse.Namespace) -> Stages:
    """The trainings that these options ask for, in order."""
    wanted = {
        AUTOENCODER: options.vae is None,
        WIDE: options.vae is None and options.wide_steps,
        TEXTURED: options.vae is None and options.textured_steps,
        TRANSFORMER: True,
    }
    return Stages(tuple(name for name in wanted if wanted[name]), OPTIONS)


def check(options: argparse.Namespace, accelerator: Accelerator) -> None:
    """Find early what would otherwise end a long training.

    Raises:
        ValueError: a batch size is not divisible by the number of processes, a model or autoencoder
            that the options name cannot be loaded, the run's folder holds a stage that was trained with
            other options, or the model folder another model.
    """
    check_stages(options)
    if (options.out / "model_index.json").exists() and not (
        options.run / transformer.STATE_FILE
    ).exists():
        raise ValueError(
            f"{options.out} holds a model, and {options.run} no training of it: give another --out"
        )
    if options.begin_with is not None:
        load_pretrained(options.begin_with)
    local_batch_size(options.batch_size, accelerator)
    if options.vae is None:
        local_batch_size(options.autoencoder_batch_size, accelerator)
    elif not (options.vae / "config.json").is_file():
        raise ValueError(f"--vae {options.vae} has no config.json of an autoencoder")
    else:
        trained_autoencoder(options.vae)


def check_stages(options: argparse.Namespace) -> None:
    """Compare the options with those that the stages in the run's folder were trained with.

    Raises:
        ValueError: some differ; each is named.
    """
    stages, asked = stages_of(options), settings_of(options)
    files = {
        AUTOENCODER: options.run / training.STATE_FILE,
        WIDE: decoder.state_file(options.run / decoder.WIDE),
        TEXTURED: decoder.state_file(options.run / decoder.TEXTURED),
        TRANSFORMER: options.run / transformer.STATE_FILE,
    }
    for name in stages.listed:
        stages[name].check(saved_settings(files[name]), asked[name], options.run)


def settings_of(options: argparse.Namespace) -> dict[str, Settings]:
    """What the options say about each stage."""
    shape = latent_shape(options)
    common = {
        "seed": options.seed,
        "image_size": options.image_size,
        "batch_size": options.autoencoder_batch_size,
    }
    shapes = {"downscale": shape.downscale, "latent_channels": shape.channels}
    wide, textured = options.wide_steps, options.textured_steps
    return {
        AUTOENCODER: common | shapes | {"steps": options.autoencoder_steps},
        WIDE: common | {"steps": wide},
        TEXTURED: common | {"steps": textured, "wide_steps": wide},
        TRANSFORMER: asdict(transformer_plan(options)),
    }


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
        stage=stages_of(options)[AUTOENCODER],
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
    return decoder.train(
        examples,
        vae_folder,
        plan,
        out=options.run,
        accelerator=accelerator,
        stages=stages_of(options),
    )


def train_transformer(
    examples: decoder.Examples, options: argparse.Namespace, accelerator: Accelerator
) -> None:
    transformer.train(
        examples.latents,
        examples.labels,
        transformer_plan(options),
        out=options.run,
        accelerator=accelerator,
        stage=stages_of(options)[TRANSFORMER],
    )


def transformer_plan(options: argparse.Namespace) -> transformer.Plan:
    return transformer.Plan(
        network=options.network,
        steps=options.transformer_steps,
        batch_size=options.batch_size,
        seed=options.seed,
        begin_with=options.begin_with,
    )


def train(options: argparse.Namespace, accelerator: Accelerator) -> None:
    """Train everything and write the model folder.

    Raises:
        ValueError: the options or the photographs do not allow it.
    """
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
    options = options_parser().parse_args()
    options.run = options.run or options.out.with_name(options.out.name + ".run")
    accelerator = accelerator_from(options)
    with named_errors(), exclusive(options.run, accelerator):
        train(options, accelerator)


if __name__ == "__main__":
    main()
