"""Train the DiT on the latents of photographs.

    python -m model.train.transformer --data PHOTOGRAPHS --vae RUN/vae --out RUN

Each photograph is encoded once, unchanged and mirrored; the DiT then learns only from these latents.
The autoencoder can be any AutoencoderKL. A DiT that is already trained, even on other classes,
shortens the training: see --begin-with.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from model.networks.dit import DiT
from model.sampling.schedule import NoiseSchedule
from model.train.data.latents import fingerprint, sample_batch, training_latents
from model.train.data.photographs import photographs_from
from model.train.loss import min_snr_weights, sample_timesteps, training_loss
from model.train.network import NETWORKS, SMALL, NetworkSpec
from model.train.options import accelerator_from, add_vae_option, named_errors, training_parser
from model.train.pretrained import copy_matching_weights
from model.train.run_folder import exclusive
from model.train.stages import TRANSFORMER, Stage
from model.train.trainer import Loss, Schedule, Trainer, local_batch_size

STEPS, BATCH_SIZE, LEARNING_RATE = 12000, 128, 8e-4

STATE_FILE, NETWORK_FILE = "transformer.state.pt", "transformer.json"
"""Files of a run: the trainer's state and the network's `NetworkSpec`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which DiT to train, and how.

    ``begin_with`` names a model as DIT_MODEL does; its weights are copied where name and shape agree.
    ``batch_size`` is that of all processes together.
    """

    network: str = SMALL  # one of NETWORKS
    steps: int = STEPS
    learning_rate: float = LEARNING_RATE
    batch_size: int = BATCH_SIZE
    seed: int = 0
    begin_with: str | None = None


def muon_matrices(dit: DiT) -> list[nn.Parameter]:
    """The weights of attention and MLP, which multiply every token."""
    weights = dit.blocks.named_parameters()
    return [weight for name, weight in weights if weight.ndim == 2 and "adaLN" not in name]


def diffusion_loss(latents: Tensor, labels: Tensor, batch_size: int) -> Loss:
    """The trainer's loss: improved diffusion's hybrid loss on a random batch of latents.

    The noise error is weighted by `min_snr_weights`.
    """
    schedule = NoiseSchedule()
    weights = min_snr_weights(schedule).to(labels.device)

    def loss(dit: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        device = generator.device
        chosen, mirrored = sample_batch(latents, batch_size, generator)
        x_start = latents[chosen, mirrored]  # (B, C, s, s)
        t = sample_timesteps(batch_size, generator)
        noise = torch.randn(x_start.shape, generator=generator, device=device)
        losses = training_loss(
            lambda x, t, y: _forward(dit, x, t, y), schedule, x_start, t, labels[chosen], noise
        )
        losses["loss"] = weights[t] * losses["mse"] + losses["vb"]
        return {name: value.mean() for name, value in losses.items()}

    return loss


def _forward(dit: nn.Module, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """The DiT in bf16. On a CPU, fused attention's backward pass is ten times slower at 16 tokens."""
    attention = nullcontext() if x.is_cuda else sdpa_kernel(SDPBackend.MATH)
    with torch.autocast(x.device.type, torch.bfloat16), attention:
        output: Tensor = dit(x, t, y)
    return output.float()


def train(
    latents: Tensor,
    labels: Tensor,
    plan: Plan,
    *,
    out: Path,
    accelerator: Accelerator,
    stage: Stage | None = None,
) -> DiT:
    """Train a DiT, or continue an interrupted training, and return the averaged weights.

    Args:
        latents: (N, M, C, s, s), M views of each photograph.
        labels: (N,).
        plan: the network and the optimiser's settings.
        out: the run's folder, which gets the trainer's state and the network's configuration.
        accelerator: the devices and processes.
        stage: this training's place among those of a command.

    Raises:
        ValueError: ``out`` holds a run of another network or another plan, or ``begin_with`` does not
            fit.
    """
    _, _, channels, side, _ = latents.shape
    spec = NetworkSpec(plan.network, channels, side, num_classes=int(labels.max()) + 1)
    with accelerator.main_process_first():
        spec.write_or_check(out / NETWORK_FILE)
    torch.manual_seed(plan.seed)
    dit = spec.build()
    if plan.begin_with is not None and not (out / STATE_FILE).exists():
        copy_matching_weights(dit, plan.begin_with)
    schedule = Schedule(plan.steps, plan.learning_rate, seed=plan.seed)
    trainer = Trainer(
        dit,
        schedule,
        out / STATE_FILE,
        accelerator=accelerator,
        muon_matrices=muon_matrices(dit),
        stage=stage or Stage(TRANSFORMER),
        settings=asdict(plan) | {"latents": fingerprint(latents, labels)},
    )
    trainer.resume()
    batch_size = local_batch_size(plan.batch_size, accelerator)
    device = trainer.device
    return trainer.run(diffusion_loss(latents.to(device), labels.to(device), batch_size))


def add_network_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--network",
        choices=NETWORKS,
        default=SMALL,
        metavar="NAME",
        help="the DiT: small, or one of the paper's, DiT-S/8 to DiT-XL/2 (default %(default)s)",
    )
    parser.add_argument(
        "--begin-with",
        metavar="MODEL",
        help="start from a trained model, named as in DIT_MODEL: copies the weights that fit",
    )


def main() -> None:
    parser = training_parser(
        "model.train.transformer",
        __doc__,
        steps=STEPS,
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
    )
    add_vae_option(parser)
    add_network_options(parser)
    options = parser.parse_args()
    accelerator = accelerator_from(options)
    with named_errors(), exclusive(options.out, accelerator):
        run(options, accelerator)


def run(options: argparse.Namespace, accelerator: Accelerator) -> None:
    """Train as the options say."""
    images, labels = photographs_from(options).part(held_out=False)
    latents = training_latents(images, options.vae, options.out / "latents.pt", accelerator)
    plan = Plan(
        network=options.network,
        steps=options.steps,
        learning_rate=options.learning_rate,
        batch_size=options.batch_size,
        seed=options.seed,
        begin_with=options.begin_with,
    )
    train(latents, labels, plan, out=options.out, accelerator=accelerator)


if __name__ == "__main__":
    main()
