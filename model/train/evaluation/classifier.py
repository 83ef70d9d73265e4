"""The judge: a small classifier of real photographs, whose features and verdicts measure pictures.

    python -m model.train.classifier --data PHOTOGRAPHS --out RUN

It learns from the photographs that the bundled model is trained on and from no generated one.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.train.autoencoder.autoencoder import mirror_half, to_unit_range
from model.train.data.photographs import Photographs, load_photographs
from model.train.options import accelerator_of, training_parser
from model.train.trainer import Loss, Schedule, Trainer, share

LARGEST_SHIFT = 4  # pixels


class Stage(nn.Module):
    """Halve the side, then refine by one residual 3x3 convolution."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False)
        self.norm = nn.GroupNorm(8, channels_out)
        self.refine = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm_refined = nn.GroupNorm(8, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.down(x)))
        return F.relu(x + self.norm_refined(self.refine(x)))


class Classifier(nn.Module):
    """Pixels (N, 3, S, S) in -1 .. 1 -> logits (N, num_classes)."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.stages = nn.Sequential(Stage(16, 32), Stage(32, 64), Stage(64, 128))
        self.head = nn.Linear(128, num_classes)

    def features(self, pixels: Tensor) -> Tensor:
        """Pixels (N, 3, S, S) -> what the head reads, (N, 128)."""
        x: Tensor = self.stages(F.relu(self.stem(pixels)))
        return x.mean((2, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(pixels))
        return logits


def classification_loss(images: Tensor, labels: Tensor, batch_size: int) -> Loss:
    """Return the trainer's loss: cross-entropy on mirrored and shifted photographs."""

    def loss(classifier: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        batch = (batch_size,)
        chosen = torch.randint(len(images), batch, generator=generator, device=generator.device)
        pixels = mirror_half(_shifted(to_unit_range(images[chosen]), generator), generator)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with torch.autocast(pixels.device.type, torch.bfloat16):
            logits = classifier(pixels)
        error = F.cross_entropy(logits.float(), labels[chosen], label_smoothing=0.05)
        right = (logits.argmax(1) == labels[chosen]).float().mean()
        return {"loss": error, "accuracy": right}

    return loss


def _shifted(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """The whole batch moved by a few pixels, white coming in at the edges."""
    shifts = torch.randint(
        2 * LARGEST_SHIFT + 1, (2,), generator=generator, device=generator.device
    )
    across, down = shifts.tolist()
    padded = F.pad(pixels, (LARGEST_SHIFT,) * 4, value=1.0)
    height, width = pixels.shape[2:]
    return padded[:, :, down : down + height, across : across + width].clone()


@torch.no_grad()
def judge(classifier: Classifier, images: Tensor) -> tuple[Tensor, Tensor]:
    """uint8 images (N, 3, S, S) -> the classes they are taken for (N,), their features (N, 128)."""
    features = [classifier.features(to_unit_range(part)) for part in torch.split(images, 256)]
    together = torch.cat(features)
    return classifier.head(together).argmax(1), together


def accuracy(classifier: Classifier, images: Tensor, labels: Tensor) -> float:
    """Share of uint8 images that are taken for what they are."""
    taken_for, _ = judge(classifier, images)
    return float((taken_for == labels).float().mean())


def train(
    photographs: Photographs,
    schedule: Schedule,
    batch_size: int,
    out: Path,
    accelerator: Accelerator | None = None,
) -> Classifier:
    """Train, or go on training, and return the averaged classifier."""
    images, labels = photographs.part(held_out=False)
    torch.manual_seed(schedule.seed)
    classifier = Classifier(len(photographs.class_names))
    trainer = Trainer(classifier, schedule, out / "classifier.state.pt", accelerator)
    trainer.resume()
    here, of_here = images.to(trainer.device), labels.to(trainer.device)
    return trainer.run(classification_loss(here, of_here, share(batch_size, trainer.accelerator)))


def load_classifier(path: Path) -> Classifier:
    """Load what ``main`` saved."""
    state = load_file(path)
    classifier = Classifier(len(state["head.bias"]))
    classifier.load_state_dict(state)
    return classifier.eval().requires_grad_(False)


def main() -> None:
    parser = training_parser(__doc__, steps=2000, batch_size=64, learning_rate=2e-3)
    options = parser.parse_args()
    accelerator = accelerator_of(options)
    photographs = load_photographs(options.data, options.image_size, options.leave_out)
    schedule = Schedule(
        options.steps, options.learning_rate, weight_decay=0.05, warmup_steps=100, seed=options.seed
    )
    classifier = train(photographs, schedule, options.batch_size, options.out, accelerator)
    if not accelerator.is_main_process:
        return
    state = {name: tensor.contiguous() for name, tensor in classifier.state_dict().items()}
    right = accuracy(classifier, *photographs.part(held_out=True))
    facts = {"held_out_accuracy": f"{right:.4f}", "classes": json.dumps(photographs.class_names)}
    save_file(state, options.out / "classifier.safetensors", facts)
    print(f"held-out accuracy {right:.2%} on {int(photographs.held_out.sum())} photographs")


if __name__ == "__main__":
    main()
