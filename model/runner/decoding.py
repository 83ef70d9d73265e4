"""Decoding: latents on their way to pixels, concurrent with the next ticks on CUDA."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from model.device import device_faults
from model.networks.vae import Vae
from model.runner.span import Span

Pixels = list[np.ndarray | None]
"""uint8 (H, W, 3) per image; None if it is not finite."""


class Decoding:
    """One pass of the decoder. ``pixels`` waits for it, ``done`` does not.

    Without a ``span`` the pass is over already.
    """

    def __init__(self, images: Tensor, finite: Tensor, span: Span | None) -> None:
        self._images = images
        self._finite = finite
        self._span = span

    @property
    def done(self) -> bool:
        return self._span is None or self._span.done

    @property
    def device_seconds(self) -> float | None:
        """What the pass took; it must be done. None on the CPU: as long as the call to start it."""
        return None if self._span is None else self._span.seconds

    @device_faults()
    def pixels(self) -> Pixels:
        """Wait for the images. Each is an array of its own, which keeps no other alive.

        Raises:
            DeviceLost: the device is gone.
        """
        if self._span is not None:
            self._span.wait()
        kept = self._finite.tolist()
        return [image.copy() if ok else None for image, ok in zip(self._images.numpy(), kept)]


class Decoder:
    """An autoencoder that decodes up to ``at_once`` images per pass.

    Args:
        vae: the autoencoder.
        at_once: the most images that should share a pass; `limit` lowers it.
        stream: where passes run on CUDA, next to the ticks; None on the CPU.
    """

    def __init__(self, vae: Vae, at_once: int, stream: torch.cuda.Stream | None) -> None:
        self.at_once = at_once
        self._vae = vae
        self._stream = stream

    def limit(self, images: int) -> None:
        """From now on decode at most this many images per pass, but at least one."""
        self.at_once = max(1, min(self.at_once, images))

    def start(self, latents: Tensor) -> Decoding:
        """Decode latents (n, C, S, S) in one pass. They must not be changed afterwards."""
        if self._stream is None:
            return Decoding(*self._vae.decode(latents), None)
        self._stream.wait_stream(torch.cuda.current_stream())
        latents.record_stream(self._stream)
        with torch.cuda.stream(self._stream):
            span = Span()
            images, finite = self._vae.decode(latents)
            images, finite = _to_host(images), _to_host(finite)
            span.end()
        return Decoding(images, finite, span)


def _to_host(tensor: Tensor) -> Tensor:
    """Start copying to pinned memory; the copy is complete when the stream gets there."""
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)
