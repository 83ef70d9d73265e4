"""Train the classifier that an evaluation needs: it recognises the classes of photographs.

    python -m model.train.evaluation.classifier --data PHOTOGRAPHS --out RUN

Writes RUN/classifier.safetensors. Evaluation uses its predictions and its features. It is trained on the
same photographs as the model, and never on generated pictures.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.train.data.latents import fingerprint
from model.train.data.photographs import Photographs, photographs_from
from model.train.data.pixels import mirror_half, to_unit_range
from model.train.options import accelerator_from, named_errors, training_parser
from model.train.run_folder import exclusive
from model.train.trainer import Loss, Schedule, Trainer, local_batch_size

MAX_SHIFT = 4  # pixels
PREDICTED_AT_ONCE = 256


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
        """Pixels (N, 3, S, S) -> the head's input (N, 128)."""
        x: Tensor = self.stages(F.relu(self.stem(pixels)))
        return x.mean((2, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(pixels))
        return logits

    @torch.no_grad()
    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images (N, 3, S, S) -> predicted classes (N,), features (N, 128)."""
        parts = torch.split(images, PREDICTED_AT_ONCE)
        features = torch.cat([self.features(to_unit_range(part)) for part in parts])
        return self.head(features).argmax(1), features

    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Fraction of uint8 images that are classified correctly."""
        predicted, _ = self.predict(images)
        return float((predicted == labels).float().mean())


def classification_loss(images: Tensor, labels: Tensor, batch_size: int) -> Loss:
    """The trainer's loss: cross-entropy on mirrored and shifted photographs."""

    def loss(classifier: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        batch = (batch_size,)
        chosen = torch.randint(len(images), batch, generator=generator, device=generator.device)
        pixels = mirror_half(_shifted(to_unit_range(images[chosen]), generator), generator)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with torch.autocast(pixels.device.type, torch.bfloat16):
            logits = classifier(pixels)
        error = F.cross_entropy(logits.float(), labels[chosen], label_smoothing=0.05)
        accuracy = (logits.argmax(1) == labels[chosen]).float().mean()
        return {"loss": error, "accuracy": accuracy}

    return loss


def _shifted(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """The whole batch shifted by a few pixels, with white at the edges."""
    shifts = torch.randint(2 * MAX_SHIFT + 1, (2,), generator=generator, device=generator.device)
    across, down = shifts.tolist()
    padded = F.pad(pixels, (MAX_SHIFT,) * 4, value=1.0)
    height, width = pixels.shape[2:]
    return padded[:, :, down : down + height, across : across + width].clone()


def train(
    photographs: Photographs,
    schedule: Schedule,
    *,
    batch_size: int,
    out: Path,
    accelerator: Accelerator,
) -> Classifier:
    """Train a classifier, or continue an interrupted training, and return the averaged weights.

    Raises:
        ValueError: see `local_batch_size` and `Trainer.resume`.
    """
    images, labels = photographs.part(held_out=False)
    torch.manual_seed(schedule.seed)
    classifier = Classifier(len(photographs.class_names))
    state_file = out / "classifier.state.pt"
    settings = {"batch_size": batch_size, "photographs": fingerprint(images, labels)}
    trainer = Trainer(classifier, schedule, state_file, accelerator=accelerator, settings=settings)
    trainer.resume()
    device, local = trainer.device, local_batch_size(batch_size, accelerator)
    return trainer.run(classification_loss(images.to(device), labels.to(device), local))


def load_classifier(path: Path) -> Classifier:
    """Load a classifier that `main` saved."""
    state = load_file(path)
    classifier = Classifier(len(state["head.bias"]))
    classifier.load_state_dict(state)
    return classifier.eval().requires_grad_(False)


def main() -> None:
    parser = training_parser(
        "model.train.evaluation.classifier", __doc__, steps=2000, batch_size=64, learning_rate=2e-3
    )
    options = parser.parse_args()
    accelerator = accelerator_from(options)
    with named_errors(), exclusive(options.out, accelerator):
        run(options, accelerator)


def run(options: argparse.Namespace, accelerator: Accelerator) -> None:
    """Train as the options say, and save the classifier."""
    photographs = photographs_from(options)
    schedule = Schedule(
        options.steps, options.learning_rate, weight_decay=0.05, warmup_steps=100, seed=options.seed
    )
    classifier = train(
        photographs,
        schedule,
        batch_size=options.batch_size,
        out=options.out,
        accelerator=accelerator,
    )
    if not accelerator.is_main_process:
        return
    state = {name: tensor.contiguous() for name, tensor in classifier.state_dict().items()}
    accuracy = classifier.accuracy(*photographs.part(held_out=True))
    metadata = {
        "held_out_accuracy": f"{accuracy:.4f}",
        "classes": json.dumps(photographs.class_names),
    }
    save_file(state, options.out / "classifier.safetensors", metadata)
    print(f"held-out accuracy {accuracy:.2%} on {int(photographs.held_out.sum())} photographs")


if __name__ == "__main__":
    main()
