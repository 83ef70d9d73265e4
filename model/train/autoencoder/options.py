"""Command-line options that choose the shape of the latents."""

from __future__ import annotations

import argparse

from model.train.autoencoder.network import WIDTHS, LatentShape

LARGEST_FINE_SIZE = 64
"""Image side up to which downscaling by 4 gives a DiT with patches of 2 at most 64 tokens."""


def add_latent_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--downscale",
        type=int,
        choices=WIDTHS,
        help="how many times smaller than the picture a latent's side is; 4 keeps more detail but"
        f" costs the DiT four times the tokens (default 4 up to {LARGEST_FINE_SIZE} pixels, else 8)",
    )
    parser.add_argument(
        "--latent-channels",
        type=int,
        metavar="N",
        help="channels of the latents (default: the same number as --downscale)",
    )


def latent_shape(options: argparse.Namespace) -> LatentShape:
    """The shape that the options give, or the default for their image size."""
    downscale = options.downscale or (4 if options.image_size <= LARGEST_FINE_SIZE else 8)
    return LatentShape(options.latent_channels or downscale, downscale)
