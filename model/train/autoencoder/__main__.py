"""Train an autoencoder on photographs.

    python -m model.train.autoencoder --data PHOTOGRAPHS --out RUN

Writes RUN/vae in diffusers' layout. The loss is L1 on pixels and on differences between neighbouring
pixels, plus a tiny KL term.
"""

from __future__ import annotations

import argparse

from accelerate import Accelerator

from model.train.autoencoder import training
from model.train.autoencoder.network import reconstruct
from model.train.autoencoder.options import add_latent_options, latent_shape
from model.train.data.photographs import photographs_from
from model.train.data.similarity import psnr
from model.train.options import accelerator_from, named_errors, training_parser
from model.train.run_folder import exclusive
from model.train.trainer import Schedule


def main() -> None:
    parser = training_parser(
        "model.train.autoencoder",
        __doc__,
        steps=training.STEPS,
        batch_size=training.BATCH_SIZE,
        learning_rate=training.LEARNING_RATE,
    )
    add_latent_options(parser)
    options = parser.parse_args()
    accelerator = accelerator_from(options)
    with named_errors(), exclusive(options.out, accelerator):
        run(options, accelerator)


def run(options: argparse.Namespace, accelerator: Accelerator) -> None:
    """Train as the options say, and print how good the autoencoder is."""
    photographs = photographs_from(options)
    vae = training.train(
        photographs,
        Schedule(options.steps, options.learning_rate, seed=options.seed),
        batch_size=options.batch_size,
        out=options.out,
        accelerator=accelerator,
        shape=latent_shape(options),
    )
    held_out, _ = photographs.part(held_out=True)
    if accelerator.is_main_process:
        decibels = psnr(reconstruct(vae, held_out), held_out)
        print(f"held-out PSNR {decibels:.2f} dB on {len(held_out)} photographs")


if __name__ == "__main__":
    main()
