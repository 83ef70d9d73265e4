"""RequestLimits: what the server allows, and its defaults for what a request leaves out."""

from __future__ import annotations

from dataclasses import dataclass

from model.sampling.parameters import SamplerName
from model.sampling.presets import Quality
from service.engine.model_info import ModelInfo


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """If ``cfg_scale`` is None, the model's recommendation is the default.

    ``quality`` is the default unless ``num_sampling_steps`` or ``sampler`` are set. If ``cfg_channels``
    is None, guidance applies to all channels by default. ``signed`` says whether finished images are
    signed. ``seed`` is that of a request that names none; if it is None, one is drawn. ``elapsed_s`` is
    the part of the request's deadline that has passed.
    """

    max_images: int
    timeout_s: float
    cfg_scale: float | None
    quality: Quality
    num_sampling_steps: int | None
    sampler: SamplerName | None
    reproducible: bool
    signed: bool = False
    cfg_channels: int | None = None
    seed: int | None = None
    elapsed_s: float = 0.0

    def cfg_scale_for(self, model_info: ModelInfo) -> float:
        """The guidance scale of a request that names none."""
        ours = self.cfg_scale if model_info.guidable else None
        return model_info.default_cfg_scale if ours is None else ours

    def cfg_channels_for(self, model_info: ModelInfo) -> int:
        """The guided channels of a request that names none, as far as the model has as many."""
        return min(self.cfg_channels or model_info.in_channels, model_info.in_channels)
