"""The DiT's training: photographs and a trained autoencoder -> averaged DiT weights.

    python -m model.train.transformer --data PHOTOGRAPHS --vae RUN/vae --out RUN

Each photograph is encoded once, as it is and mirrored; the DiT then learns from latents alone. The
autoencoder may be any AutoencoderKL, and the DiT of any of the paper's sizes; one that is trained already, of
other classes even, shortens the way.
"""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from model.networks.dit import WIDTHS, DiT
from model.sampling.schedule import NoiseSchedule
from model.train.data.latents import draw, training_latents
from model.train.data.photographs import load_photographs
from model.train.loss import training_loss
from model.train.options import accelerator_of, training_parser
from model.train.trainer import Loss, Schedule, Trainer, share
from model.weights.checkpoint import load_checkpoint
from model.weights.errors import CheckpointError

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

LARGEST_SNR = 5.0
EVERYWHERE, SHAPING = (0, 1000), (150, 700)
"""Timesteps: all, and those between what is nearly clean and what is nearly noise (alpha_bar 0.79 to 0.007)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a DiT learns, and which.

    ``begin_with`` is a model as DIT_MODEL names it, whose weights are taken where name and shape agree.
    """

    network: str = SMALL  # one of NETWORKS
    steps: int = STEPS
    learning_rate: float = LEARNING_RATE
    batch_size: int = BATCH_SIZE  # of all processes
    seed: int = 0
    begin_with: str | None = None


def dit_facts(network: str, latent_shape: tuple[int, int, int], num_classes: int) -> dict[str, Any]:
    """The arguments of a DiT, one of NETWORKS, for latents of the shape (C, S, S)."""
    channels, side, _ = latent_shape
    facts = {"in_channels": channels, "input_size": side, "num_classes": num_classes}
    return NETWORKS[network] | facts | {"downscale_freq_shift": DOWNSCALE_FREQ_SHIFT}


def trained_dit(model: str) -> DiT:
    """The DiT of a model that DIT_MODEL could name, on the CPU.

    Raises:
        ValueError: the model cannot be loaded.
    """
    try:
        return load_checkpoint(model, device=torch.device("cpu"), dtype=torch.float32).dit
    except CheckpointError as error:
        raise ValueError(f"cannot begin with {model}: {error}") from error


def take_over(dit: DiT, model: str) -> None:
    """Fill a DiT from a trained one, but for what differs in shape, other patches or classes, say.

    Raises:
        ValueError: the model cannot be loaded, or nothing of it fits.
    """
    old, own = trained_dit(model).state_dict(), dit.state_dict()
    learnt = [name for name in own if name != "pos_embed"]
    fits = [name for name in learnt if name in old and old[name].shape == own[name].shape]
    if not fits:
        raise ValueError(f"nothing of {model} fits this network")
    dit.load_state_dict(own | {name: old[name] for name in fits})
    new = [name for name in learnt if name not in fits]
    print(f"began with {model}, but for {', '.join(new) or 'nothing'}", flush=True)


def block_matrices(dit: DiT) -> list[nn.Parameter]:
    """The weights of attention and MLP, by which every token is multiplied: Muon's."""
    weights = dit.blocks.named_parameters()
    return [weight for name, weight in weights if weight.ndim == 2 and "adaLN" not in name]


def diffusion_loss(latents: Tensor, labels: Tensor, batch_size: int) -> Loss:
    """Return the trainer's loss: improved diffusion's hybrid loss on a random batch of latents.

    The noise's error is weighed by `error_weights`.
    """
    noise_schedule = NoiseSchedule()
    weights = error_weights(noise_schedule).to(labels.device)

    def loss(dit: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        device = generator.device
        chosen, mirrored = draw(latents, batch_size, generator)
        x_start = latents[chosen, mirrored]  # (B, C, s, s)
        t = draw_timesteps(batch_size, generator)
        noise = torch.randn(x_start.shape, generator=generator, device=device)
        losses = training_loss(
            lambda x, t, y: _forward(dit, x, t, y),
            noise_schedule,
            x_start,
            t,
            labels[chosen],
            noise,
        )
        losses["loss"] = weights[t] * losses["mse"] + losses["vb"]
        return {name: value.mean() for name, value in losses.items()}

    return loss


def error_weights(schedule: NoiseSchedule) -> Tensor:
    """min(SNR, 5) / SNR by timestep, (T,): what is nearly clean weighs less.

    Hang et al. 2023, "Efficient diffusion training via min-SNR weighting strategy", for a network that
    predicts noise.
    """
    alpha_bar = torch.from_numpy(schedule.alpha_bar)
    return (LARGEST_SNR * (1 - alpha_bar) / alpha_bar).clamp(max=1.0).float()


def draw_timesteps(batch_size: int, generator: torch.Generator) -> Tensor:
    """Timesteps (B,), every other one of all, the rest of those where a picture takes shape.

    Both are spread evenly from one random start, which has the mean of independent draws and less
    variance (Kingma et al. 2021, "Variational diffusion models").
    """
    numbers = torch.arange(batch_size, device=generator.device)
    start = torch.rand(1, generator=generator, device=generator.device)
    places = (numbers / batch_size + start) % 1
    everywhere, shaping = (low + places * (high - low) for low, high in (EVERYWHERE, SHAPING))
    drawn = torch.where(numbers % 2 == 0, everywhere, shaping)
    return drawn.long().clamp(max=EVERYWHERE[1] - 1)


def _forward(dit: nn.Module, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """The DiT in bf16; on a CPU, the fused attention's backward is ten times slower at 16 tokens."""
    attention = nullcontext() if x.is_cuda else sdpa_kernel(SDPBackend.MATH)
    with torch.autocast(x.device.type, torch.bfloat16), attention:
        output: Tensor = dit(x, t, y)
    return output.float()


def train(
    latents: Tensor,
    labels: Tensor,
    plan: Plan,
    out: Path,
    accelerator: Accelerator | None = None,
) -> DiT:
    """Train, or go on training, on latents (N, M, C, s, s) and labels (N,); the averaged DiT.

    ``out`` gets the trainer's state and the network's configuration, ``transformer.json``.

    Raises:
        ValueError: ``out`` holds the state of another network, or ``begin_with`` does not fit.
    """
    accelerator = accelerator or Accelerator()
    _, _, channels, side, _ = latents.shape
    facts = dit_facts(plan.network, (channels, side, side), int(labels.max()) + 1)
    with accelerator.main_process_first():
        _claim(out / "transformer.json", facts)
    torch.manual_seed(plan.seed)
    dit = DiT(**facts)
    state_file = out / "transformer.state.pt"
    if plan.begin_with is not None and not state_file.exists():
        take_over(dit, plan.begin_with)
    schedule = Schedule(plan.steps, plan.learning_rate, seed=plan.seed)
    trainer = Trainer(dit, schedule, state_file, accelerator, block_matrices(dit))
    trainer.resume()
    here, of_here = latents.to(trainer.device), labels.to(trainer.device)
    return trainer.run(diffusion_loss(here, of_here, share(plan.batch_size, accelerator)))


def _claim(file: Path, facts: dict[str, Any]) -> None:
    """Write the network's configuration, or see that what is there is the same."""
    if file.exists():
        if json.loads(file.read_text()) != facts:
            raise ValueError(f"{file.parent} holds a run of another network: {file.read_text()}")
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(facts) + "\n")


def begin_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--begin-with",
        metavar="MODEL",
        help="a trained DiT, as DIT_MODEL: its weights where they fit",
    )


def main() -> None:
    parser = training_parser(
        __doc__, steps=STEPS, batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE
    )
    parser.add_argument("--vae", type=Path, required=True, help="the trained autoencoder's folder")
    parser.add_argument("--network", choices=NETWORKS, default=SMALL)
    begin_option(parser)
    options = parser.parse_args()
    accelerator = accelerator_of(options)
    images, labels = load_photographs(options.data, options.image_size, options.leave_out).part(
        held_out=False
    )
    latents = training_latents(images, options.vae, options.out / "latents.pt", accelerator)
    plan = Plan(
        options.network,
        options.steps,
        options.learning_rate,
        options.batch_size,
        options.seed,
        options.begin_with,
    )
    train(latents, labels, plan, options.out, accelerator)


if __name__ == "__main__":
    main()
