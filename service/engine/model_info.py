"""ModelInfo: what HTTP needs to know about the model that the engine runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from model.sampling.fitted import FittedSolver
from model.sampling.parameters import MAX_STEPS, SamplerName
from model.sampling.presets import ANY_MODEL, Presets
from model.sampling.schedule import NoiseSchedule
from model.weights.checkpoint import Checkpoint
from service.engine.class_catalogue import ClassCatalogue

OFFICIAL_CFG_SCALE = 4.0
"""The guidance scale of the official samples, for models that recommend none."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Facts about a loaded checkpoint, without its tensors.

    ``guidable``: it has a null class. ``fitted``: the solvers that were fitted to it. ``presets``: how
    to sample it at each quality.
    """

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
    fitted: tuple[FittedSolver, ...] = ()
    presets: Presets = field(default_factory=lambda: ANY_MODEL)

    @property
    def samplers(self) -> tuple[SamplerName, ...]:
        """Those that the model can be sampled with."""
        return tuple(name for name in get_args(SamplerName) if name != "fitted" or self.fitted)

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
            fitted=checkpoint.fitted,
            presets=checkpoint.presets,
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
