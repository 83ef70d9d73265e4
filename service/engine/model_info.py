"""ModelInfo: what HTTP needs to know about the model that the engine runs."""

from __future__ import annotations

from dataclasses import dataclass

from model.sampling.parameters import MAX_STEPS
from model.sampling.schedule import NoiseSchedule
from model.weights.checkpoint import Checkpoint
from service.engine.class_catalogue import ClassCatalogue

OFFICIAL_CFG_SCALE = 4.0
"""The guidance scale of the official samples, for models that recommend none."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Facts about a loaded checkpoint, without its tensors. ``guidable``: has a null class."""

    name: str
    architecture: str
    image_size: int
    dtype: str
    device: str
    digest: str
    licence: str | None
    guidable: bool
    default_cfg_scale: float
    schedule: NoiseSchedule
    classes: ClassCatalogue

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> ModelInfo:
        guidable = checkpoint.dit.null_class is not None
        recommended = checkpoint.default_cfg_scale or OFFICIAL_CFG_SCALE
        return cls(
            name=checkpoint.name,
            architecture=checkpoint.architecture,
            image_size=checkpoint.image_size,
            dtype=str(checkpoint.dtype).removeprefix("torch."),
            device=str(checkpoint.device),
            digest=checkpoint.digest,
            licence=checkpoint.licence,
            guidable=guidable,
            default_cfg_scale=recommended if guidable else 1.0,
            schedule=checkpoint.schedule,
            classes=ClassCatalogue(checkpoint.class_names),
        )

    @property
    def max_steps(self) -> int:
        """The most steps of an image: one for each timestep of training, up to the API's limit."""
        return min(self.schedule.num_train_timesteps, MAX_STEPS)

    def labels(self) -> dict[str, str]:
        """The labels of the dit_model_info metric."""
        return {
            "name": self.name,
            "architecture": self.architecture,
            "image_size": str(self.image_size),
            "classes": str(len(self.classes)),
            "dtype": self.dtype,
            "device": self.device,
            "digest": self.digest,
        }
