"""The DiT's training: photographs and a trained autoencoder -> averaged DiT weights.

    python -m model.train.transformer --data PHOTOGRAPHS --vae RUN/vae --out RUN

Each photograph is encoded once, as it is and mirrored; the DiT then learns from latents alone. The
autoencoder may be any AutoencoderKL, and the DiT of any of the paper's sizes.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from model.diffusion import NoiseSchedule, training_loss
from model.dit import WIDTHS, DiT
from model.train.latents import draw, training_latents
from model.train.options import accelerator_of, training_parser
from model.train.photographs import load_photographs
from model.train.trainer import Loss, Schedule, Trainer, share

DOWNSCALE_FREQ_SHIFT = 1
"""diffusers' timestep frequencies, so that its DiTPipeline computes what the DiT has learnt."""


SMALL = "small"
NETWORKS: dict[str, dict[str, Any]] = {
    f"DiT-{name}/{patch_size}": {
        "hidden_size": hidden_size,
        "depth": depth,
        "num_heads": num_heads,
        "patch_size": patch_size,
    }
    for name, (hidden_size, depth, num_heads) in WIDTHS.items()
    for patch_size in (2, 4, 8)
}
NETWORKS[SMALL] = {"hidden_size": 256, "depth": 8, "num_heads": 4, "patch_size": 2}
"""The bundled model's DiT, 9.8 M parameters with 71 classes, and the paper's configurations."""

STEPS, BATCH_SIZE, LEARNING_RATE = 12000, 128, 8e-4


def new_dit(network: str, latent_shape: tuple[int, int, int], num_classes: int) -> DiT:
    """An untrained DiT, one of NETWORKS, for latents of the shape (C, S, S)."""
    channels, side, _ = latent_shape
    return DiT(
        input_size=side,
        in_channels=channels,
        num_classes=num_classes,
        downscale_freq_shift=DOWNSCALE_FREQ_SHIFT,
        **NETWORKS[network],
    )


def block_matrices(dit: DiT) -> list[nn.Parameter]:
    """The weights of attention and MLP, by which every token is multiplied: Muon's."""
    weights = dit.blocks.named_parameters()
    return [weight for name, weight in weights if weight.ndim == 2 and "adaLN" not in name]


def diffusion_loss(latents: Tensor, labels: Tensor, batch_size: int) -> Loss:
    """Return the trainer's loss: improved diffusion's hybrid loss on a random batch of latents.

    The timesteps of a batch are spread evenly from one random start, which has the mean of
    independent draws and less variance (Kingma et al. 2021, "Variational diffusion models").
    """
    noise_schedule = NoiseSchedule()
    last = noise_schedule.num_train_timesteps - 1

    def loss(dit: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        device = generator.device
        chosen, mirrored = draw(latents, batch_size, generator)
        x_start = latents[chosen, mirrored]  # (B, C, s, s)
        start = torch.rand(1, generator=generator, device=device)
        places = torch.arange(batch_size, device=device) / batch_size + start
        t = (places % 1 * (last + 1)).long().clamp(max=last)
        noise = torch.randn(x_start.shape, generator=generator, device=device)
        losses = training_loss(
            lambda x, t, y: _forward(dit, x, t, y),
            noise_schedule,
            x_start,
            t,
            labels[chosen],
            noise,
        )
        return {name: value.mean() for name, value in losses.items()}

    return loss


def _forward(dit: nn.Module, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """The DiT in bf16; on a CPU, the fused attention's backward is ten times slower at 16 tokens."""
    attention = nullcontext() if x.is_cuda else sdpa_kernel(SDPBackend.MATH)
    with torch.autocast(x.device.type, torch.bfloat16), attention:
        output: Tensor = dit(x, t, y)
    return output.float()


def train(
    latents: Tensor,
    labels: Tensor,
    schedule: Schedule,
    batch_size: int,
    out: Path,
    accelerator: Accelerator | None = None,
    network: str = SMALL,
) -> DiT:
    """Train, or go on training, on latents (N, M, C, s, s) and labels (N,); the averaged DiT.

    ``out`` gets the trainer's state and the network's configuration, ``transformer.json``.

    Raises:
        ValueError: ``out`` holds the state of another network.
    """
    torch.manual_seed(schedule.seed)
    _, _, channels, side, _ = latents.shape
    dit = new_dit(network, (channels, side, side), int(labels.max()) + 1)
    state_file = out / "transformer.state.pt"
    trainer = Trainer(dit, schedule, state_file, accelerator, block_matrices(dit))
    facts = NETWORKS[network] | {"in_channels": channels, "input_size": side}
    with trainer.accelerator.main_process_first():
        _claim(out / "transformer.json", facts | {"num_classes": dit.num_classes})
    trainer.resume()
    here, of_here = latents.to(trainer.device), labels.to(trainer.device)
    return trainer.run(diffusion_loss(here, of_here, share(batch_size, trainer.accelerator)))


def _claim(file: Path, facts: dict[str, Any]) -> None:
    """Write the network's configuration, or see that what is there is the same."""
    if file.exists():
        if json.loads(file.read_text()) != facts:
            raise ValueError(f"{file.parent} holds a run of another network: {file.read_text()}")
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(facts) + "\n")


def main() -> None:
    parser = training_parser(
        __doc__, steps=STEPS, batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE
    )
    parser.add_argument("--vae", type=Path, required=True, help="the trained autoencoder's folder")
    parser.add_argument("--network", choices=NETWORKS, default=SMALL)
    options = parser.parse_args()
    accelerator = accelerator_of(options)
    images, labels = load_photographs(options.data, options.image_size).part(held_out=False)
    latents = training_latents(images, options.vae, options.out / "latents.pt", accelerator)
    schedule = Schedule(options.steps, options.learning_rate, seed=options.seed)
    train(latents, labels, schedule, options.batch_size, options.out, accelerator, options.network)


if __name__ == "__main__":
    main()
