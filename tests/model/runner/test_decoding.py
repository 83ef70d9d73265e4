"""Decoder: on CUDA every pass runs in the decoder's stream and is done on its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest
import torch
from torch import Tensor

from model.networks.vae import Vae
from model.runner import decoding
from model.runner.decoding import Decoder
from tests.model.runner.fake_events import FakeDevice, fake_events

IMAGE_MS = 3.0


class FakeStream:
    """Notes which streams it waited for."""

    def __init__(self) -> None:
        self.waited_for: list[object] = []

    def wait_stream(self, stream: object) -> None:
        self.waited_for.append(stream)


class SlowVae:
    """Takes `IMAGE_MS` of the device for each image."""

    def __init__(self, device: FakeDevice) -> None:
        self._device = device

    def decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        self._device.launch(IMAGE_MS * len(latents))
        images = torch.zeros(len(latents), 2, 2, 3, dtype=torch.uint8)
        return images, latents.isfinite().flatten(1).all(1)


class Streams:
    """The current stream, and those on which tensors were marked as used."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.main, self.decoding = FakeStream(), FakeStream()
        self.entered: list[object] = []
        self.recorded: list[object] = []

        @contextmanager
        def entered(stream: object) -> Iterator[None]:
            self.entered.append(stream)
            yield

        monkeypatch.setattr(torch.cuda, "stream", entered)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: self.main)
        monkeypatch.setattr(Tensor, "record_stream", lambda _, stream: self.recorded.append(stream))
        monkeypatch.setattr(decoding, "_to_host", lambda tensor: tensor)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    return fake_events(monkeypatch)


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Streams:
    return Streams(monkeypatch)


def decoder_on(device: FakeDevice, streams: Streams) -> Decoder:
    vae = cast("Vae", SlowVae(device))
    return Decoder(vae, 8, cast("torch.cuda.Stream", streams.decoding))


def test_a_pass_waits_for_the_ticks_before_it_in_a_stream_of_its_own(
    device: FakeDevice, streams: Streams
) -> None:
    decoder_on(device, streams).start(torch.zeros(2, 4, 1, 1))
    assert streams.decoding.waited_for == [streams.main]
    assert streams.entered == streams.recorded == [streams.decoding]


def test_each_pass_is_done_on_its_own_and_knows_its_own_time(
    device: FakeDevice, streams: Streams
) -> None:
    decoder = decoder_on(device, streams)
    first, second = (decoder.start(torch.zeros(n, 4, 1, 1)) for n in (8, 2))
    assert not first.done
    device.now = 8 * IMAGE_MS
    assert (first.done, second.done) == (True, False)
    assert first.device_seconds == pytest.approx(0.024)
    assert len(second.pixels()) == 2
    assert device.now == 10 * IMAGE_MS
    assert second.device_seconds == pytest.approx(0.006)
    assert all(event.blocking for event in device.waited_for)


def test_a_pass_on_the_cpu_is_done_at_once(device: FakeDevice) -> None:
    decoding = Decoder(cast("Vae", SlowVae(device)), 8, None).start(torch.zeros(2, 4, 1, 1))
    assert decoding.done
    assert decoding.device_seconds is None
    assert len(decoding.pixels()) == 2


def test_a_limit_lowers_the_images_of_a_pass_but_not_below_one(device: FakeDevice) -> None:
    decoder = Decoder(cast("Vae", SlowVae(device)), 8, None)
    for limit, at_once in ((4, 4), (6, 4), (0, 1)):
        decoder.limit(limit)
        assert decoder.at_once == at_once
