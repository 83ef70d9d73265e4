"""ModelInfo: what HTTP needs to know about the model that the engine runs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import get_args

from model.sampling.fitted import FittedSolver
from model.sampling.ns import offers_ns
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

    ``image_tokens``: the patches that its transformer sees of an image. ``loaded_at``: in seconds
    since 1970. ``guidable``: it has a null class. ``in_channels``: those of a latent. ``fitted``: the
    solvers that were fitted to it. ``presets``: how to sample it at each quality.
    """

    name: str
    architecture: str
    image_size: int
    image_tokens: int
    loaded_at: int
    dtype: str
    device: str
    digest: str
    licence: str | None
    guidable: bool
    in_channels: int
    default_cfg_scale: float
    schedule: NoiseSchedule
    classes: ClassCatalogue
    fitted: tuple[FittedSolver, ...] = ()
    presets: Presets = field(default_factory=lambda: ANY_MODEL)

    @property
    def owner(self) -> str:
        """Whom it belongs to on the hub, else this service."""
        owner, slash, _ = self.name.partition("/")
        return owner if slash else "dit-service"

    @property
    def samplers(self) -> tuple[SamplerName, ...]:
        """Those that the model can be sampled with."""
        missing = {"fitted"} if not self.fitted else set()
        missing |= {"ns"} if not self.offers_ns else set()
        return tuple(name for name in get_args(SamplerName) if name not in missing)

    @property
    def offers_ns(self) -> bool:
        """Whether sampler "ns" has tables for it."""
        return offers_ns(self.architecture, self.schedule)

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> ModelInfo:
        guidable = checkpoint.dit.null_class is not None
        recommended = checkpoint.default_cfg_scale or OFFICIAL_CFG_SCALE
        return cls(
            name=checkpoint.name,
            architecture=checkpoint.architecture,
            image_size=checkpoint.image_size,
            image_tokens=checkpoint.dit.grid_size**2,
            loaded_at=int(time.time()),
            dtype=str(checkpoint.dtype).removeprefix("torch."),
            device=str(checkpoint.device),
            digest=checkpoint.digest,
            licence=checkpoint.licence,
            guidable=guidable,
            in_channels=checkpoint.dit.in_channels,
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
