"""Drawing: what every peer server asks of diffusers' pipeline, and the PNG it answers with."""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel

from bench.arms.pipeline import PipelineLoop


class PeerRequest(BaseModel):
    """The fields of our own requests that a peer heeds; its sampler is DDIM."""

    class_label: int
    cfg_scale: float
    num_sampling_steps: int
    seed: int


@dataclass(frozen=True, slots=True)
class PeerOptions:
    port: int
    model: str
    device: str
    dtype: str
    batch: int
    wait: float


def peer_options() -> PeerOptions:
    """From the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--wait", type=float, default=0.0)
    given = parser.parse_args()
    return PeerOptions(given.port, given.model, given.device, given.dtype, given.batch, given.wait)


def load_pipeline(options: PeerOptions) -> PipelineLoop:
    """Load, and draw one image, so that the first request does not pay for what is built once."""
    dtype: torch.dtype = getattr(torch, options.dtype)
    pipeline = PipelineLoop(options.model, options.device, dtype)
    draw_together(
        pipeline, [PeerRequest(class_label=0, cfg_scale=2.0, num_sampling_steps=2, seed=0)]
    )
    return pipeline


def draw_together(pipeline: PipelineLoop, requests: Sequence[PeerRequest]) -> np.ndarray:
    """Pixels (N, H, W, 3) of requests that agree in steps and guidance: one batch has one of each."""
    first = requests[0]
    shared = {(one.num_sampling_steps, one.cfg_scale) for one in requests}
    assert len(shared) == 1, "this is a bug: a peer's batch is of one kind"
    latents = pipeline.latents(
        [one.class_label for one in requests],
        [one.seed for one in requests],
        first.num_sampling_steps,
        first.cfg_scale,
    )
    return pipeline.pixels(latents)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
