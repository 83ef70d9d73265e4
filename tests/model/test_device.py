"""The device and the dtype that a setting means."""

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


def test_a_device_that_is_not_there_is_named() -> None:
    assert choose_device("cpu") == CPU
    with pytest.raises(ValueError, match="cuda:99"):
        choose_device("cuda:99")
