"""Decoding: latents on their way to pixels, concurrent with the next ticks on CUDA."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from model.device import device_faults
from model.networks.vae import Vae

Pixels = list[np.ndarray | None]
"""uint8 (H, W, 3) per image; None if its latent is not finite."""


class Decoding:
    """One or several images in the decoder. ``pixels`` waits for them, ``done`` does not."""

    def __init__(self, images: Tensor, finite: Tensor, event: torch.cuda.Event | None) -> None:
        self._images = images
        self._finite = finite
        self._event = event

    @property
    def done(self) -> bool:
        return self._event is None or bool(self._event.query())  # type: ignore[no-untyped-call]

    @device_faults()
    def pixels(self) -> Pixels:
        """Wait for the images.

        Raises:
            DeviceLost: the device is gone.
        """
        if self._event is not None:
            self._event.synchronize()
        kept = self._finite.tolist()
        return [image if ok else None for image, ok in zip(self._images.numpy(), kept)]


class Decoder:
    """An autoencoder that decodes ``at_once`` images per pass, on CUDA in its own stream."""

    def __init__(self, vae: Vae, device: torch.device, at_once: int) -> None:
        self._vae = vae
        self._at_once = at_once
        self._stream = _stream(device) if device.type == "cuda" else None

    def start(self, latents: Tensor) -> Decoding:
        """Decode latents (n, C, S, S). They must not be changed afterwards."""
        if self._stream is None:
            return Decoding(*self._decode(torch.split(latents, self._at_once)), None)
        self._stream.wait_stream(torch.cuda.current_stream())
        latents.record_stream(self._stream)
        with torch.cuda.stream(self._stream):
            images, finite = self._decode(torch.split(latents, self._at_once))
            images, finite = _to_host(images), _to_host(finite)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        return Decoding(images, finite, event)

    def _decode(self, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        images, finite = zip(*[self._vae.decode(part) for part in parts])
        return torch.cat(images), torch.cat(finite)


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _to_host(tensor: Tensor) -> Tensor:
    """Start copying to pinned memory; the copy is complete when the stream gets there."""
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)
