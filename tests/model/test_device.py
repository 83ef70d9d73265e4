"""The device and the dtype that a setting stands for."""

from __future__ import annotations

import pytest
import torch

from model.device import choose_device, choose_dtype, cpu_multiplies_bfloat16

CPU = torch.device("cpu")


def test_auto_is_bfloat16_where_the_cpu_multiplies_it() -> None:
    fast = torch.bfloat16 if cpu_multiplies_bfloat16() else torch.float32
    assert choose_dtype("auto", CPU) == fast
    assert choose_dtype("auto", torch.device("cuda:0")) == torch.bfloat16


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_a_named_dtype_is_taken_on_every_device(name: str) -> None:
    for device in (CPU, torch.device("cuda:0")):
        assert str(choose_dtype(name, device)) == f"torch.{name}"


def test_a_missing_device_is_named_in_the_error() -> None:
    assert choose_device("cpu") == CPU
    with pytest.raises(ValueError, match="cuda:99"):
        choose_device("cuda:99")


class FakeCuda:
    """Two CUDA devices, as far as `choose_device` uses torch.cuda."""

    def __init__(self, current: int = 0) -> None:
        self.current = current

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return 2

    def current_device(self) -> int:
        return self.current

    def set_device(self, device: torch.device) -> None:
        if device.index is None:  # torch's own words
            raise ValueError(
                f"Expected a torch.device with a specified index or an integer, but got:{device}"
            )
        self.current = device.index


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    for name in ("is_available", "device_count", "current_device", "set_device"):
        monkeypatch.setattr(torch.cuda, name, getattr(fake, name))
    return fake


@pytest.mark.parametrize(
    ("name", "current", "index"),
    [
        ("cuda", 0, 0),
        ("cuda", 1, 1),
        ("cuda:0", 1, 0),
        ("cuda:1", 0, 1),
        ("auto", 1, 0),
    ],
)
def test_a_cuda_device_has_an_index_and_becomes_current(
    fake_cuda: FakeCuda, name: str, current: int, index: int
) -> None:
    fake_cuda.current = current
    assert choose_device(name) == torch.device("cuda", index)
    assert fake_cuda.current == index


@pytest.mark.usefixtures("fake_cuda")
def test_a_missing_cuda_device_is_named_with_how_many_there_are() -> None:
    with pytest.raises(ValueError, match=r"cuda:2: .* 2 CUDA devices"):
        choose_device("cuda:2")


def test_cuda_without_any_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match=r"no device cuda: .* 0 CUDA devices"):
        choose_device("cuda")
