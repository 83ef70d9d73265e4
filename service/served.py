"""ServedModel: what HTTP needs to know of the model that the engine runs."""

from __future__ import annotations

from dataclasses import dataclass

from model.checkpoint import Checkpoint
from model.diffusion import NoiseSchedule
from service.classes import ClassCatalogue


@dataclass(frozen=True, slots=True)
class ServedModel:
    """Facts of a loaded checkpoint, without its tensors."""

    name: str
    architecture: str
    image_size: int
    dtype: str
    device: str
    digest: str
    licence: str | None
    guidable: bool  # has a null class
    schedule: NoiseSchedule
    classes: ClassCatalogue

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> ServedModel:
        weights = checkpoint.dit.pos_embed
        return cls(
            name=checkpoint.name,
            architecture=checkpoint.architecture,
            image_size=checkpoint.image_size,
            dtype=str(weights.dtype).removeprefix("torch."),
            device=str(weights.device),
            digest=checkpoint.digest,
            licence=checkpoint.licence,
            guidable=checkpoint.dit.null_class is not None,
            schedule=checkpoint.schedule,
            classes=ClassCatalogue(checkpoint.class_names),
        )

    def labels(self) -> dict[str, str]:
        """For the model_info metric."""
        return {
            "name": self.name,
            "architecture": self.architecture,
            "image_size": str(self.image_size),
            "classes": str(len(self.classes)),
            "dtype": self.dtype,
            "device": self.device,
            "digest": self.digest,
        }
