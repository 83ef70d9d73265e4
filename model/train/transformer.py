"""The DiT's training: photographs and a trained autoencoder -> averaged DiT weights.

    python -m model.train.transformer --data PHOTOGRAPHS --vae RUN/vae --out RUN

Each photograph is encoded once, as it is and mirrored; the DiT then learns from latents alone.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from model.diffusion import NoiseSchedule, training_loss
from model.dit import DiT
from model.train.autoencoder import to_unit_range
from model.train.options import training_parser
from model.train.photographs import load_photographs
from model.train.trainer import Loss, Schedule, Trainer

DOWNSCALE_FREQ_SHIFT = 1
"""diffusers' timestep frequencies, so that its DiTPipeline computes what the DiT has learnt."""


def small_dit(latent_size: int, num_classes: int) -> DiT:
    """Return an untrained DiT of 9.8 M parameters (71 classes): 8 blocks of 256, patches of 2."""
    return DiT(
        input_size=latent_size,
        hidden_size=256,
        depth=8,
        num_heads=4,
        num_classes=num_classes,
        downscale_freq_shift=DOWNSCALE_FREQ_SHIFT,
    )


@torch.no_grad()
def encode(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """uint8 (N, 3, S, S) -> the posterior means, scaled as the DiT sees them: fp32 (N, C, s, s)."""
    latents = []
    for part in torch.split(images, 64):
        pixels = to_unit_range(part).contiguous(memory_format=torch.channels_last)
        with torch.autocast(pixels.device.type, torch.bfloat16):
            mean = vae.encode(pixels).latent_dist.mean
        latents.append(mean.float().contiguous() * vae.config.scaling_factor)
    return torch.cat(latents)


def training_latents(images: Tensor, vae_folder: Path, cache: Path) -> Tensor:
    """Latents (N, 2, C, s, s) of uint8 (N, 3, S, S) photographs: as they are, and mirrored.

    They are kept in ``cache``, and encoded anew when the autoencoder is younger than that.
    """
    weights = max(vae_folder.iterdir(), key=lambda path: path.stat().st_mtime)
    if cache.exists() and cache.stat().st_mtime > weights.stat().st_mtime:
        latents: Tensor = torch.load(cache, weights_only=True)
        return latents
    vae = AutoencoderKL.from_pretrained(vae_folder).eval()
    print(f"encoding {len(images)} photographs, as they are and mirrored", flush=True)
    latents = torch.stack([encode(vae, images), encode(vae, images.flip(3))], dim=1)
    torch.save(latents, cache)
    return latents


def diffusion_loss(latents: Tensor, labels: Tensor, batch_size: int) -> Loss:
    """Return the trainer's loss: improved diffusion's hybrid loss on a random batch of latents.

    The timesteps of a batch are spread evenly from one random start, which has the mean of
    independent draws and less variance (Kingma et al. 2021, "Variational diffusion models").
    """
    noise_schedule = NoiseSchedule()
    last = noise_schedule.num_train_timesteps - 1

    def loss(dit: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        chosen = torch.randint(len(latents), (batch_size,), generator=generator)
        mirrored = torch.randint(latents.shape[1], (batch_size,), generator=generator)
        x_start = latents[chosen, mirrored]  # (B, C, s, s)
        places = torch.arange(batch_size) / batch_size + torch.rand(1, generator=generator)
        t = (places % 1 * (last + 1)).long().clamp(max=last)
        noise = torch.randn(x_start.shape, generator=generator)
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


def train(latents: Tensor, labels: Tensor, schedule: Schedule, batch_size: int, out: Path) -> DiT:
    """Train, or go on training, on latents (N, M, C, s, s) and labels (N,); the averaged DiT."""
    torch.manual_seed(schedule.seed)
    dit = small_dit(latents.shape[-1], int(labels.max()) + 1)
    trainer = Trainer(dit, schedule, out / "transformer.state.pt")
    trainer.resume()
    trainer.run(diffusion_loss(latents, labels, batch_size))
    return trainer.ema


def main() -> None:
    parser = training_parser(__doc__, steps=5000, batch_size=128, learning_rate=8e-4)
    parser.add_argument("--vae", type=Path, required=True, help="the trained autoencoder's folder")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    images, labels = load_photographs(options.data, options.image_size).part(held_out=False)
    latents = training_latents(images, options.vae, options.out / "latents.pt")
    schedule = Schedule(options.steps, options.learning_rate, seed=options.seed)
    train(latents, labels, schedule, options.batch_size, options.out)


if __name__ == "__main__":
    main()
