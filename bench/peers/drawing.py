"""Drawing: what all peer servers share: command line, pipeline, requests and PNG."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, TypeAdapter

from bench.arms.pipeline import PipelineLoop


class PeerRequest(BaseModel):
    """The fields of our requests that a peer uses."""

    class_label: int
    cfg_scale: float
    num_sampling_steps: int
    seed: int
    sampler: str = "ddim"


@dataclass(frozen=True, slots=True)
class PeerOptions:
    """The command line of a peer, as one JSON object. ``batch`` and ``wait`` (s): LitServe only."""

    port: int
    model: str
    device: str
    dtype: str
    batch: int = 1
    wait: float = 0.0


def peer_options() -> PeerOptions:
    return TypeAdapter(PeerOptions).validate_json(sys.argv[1])


def load_pipeline(options: PeerOptions) -> PipelineLoop:
    """Load, and draw one image as a warm-up."""
    dtype: torch.dtype = getattr(torch, options.dtype)
    pipeline = PipelineLoop(options.model, options.device, dtype)
    warm_up = PeerRequest(class_label=0, cfg_scale=2.0, num_sampling_steps=2, seed=0)
    draw_together(pipeline, [warm_up])
    return pipeline


def draw_together(pipeline: PipelineLoop, requests: Sequence[PeerRequest]) -> np.ndarray:
    """Pixels (N, H, W, 3) of requests that have the same steps, guidance and sampler."""
    first = requests[0]
    shared = {(one.num_sampling_steps, one.cfg_scale, one.sampler) for one in requests}
    assert len(shared) == 1, "this is a bug: a peer's batch has one step count and one guidance"
    latents = pipeline.latents(
        [one.class_label for one in requests],
        [one.seed for one in requests],
        first.num_sampling_steps,
        first.cfg_scale,
        first.sampler,
    )
    return pipeline.pixels(latents)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
