"""The fused kernels and CudaNetwork against plain torch, on the CPU in Triton's interpreter.

test_cuda.py runs these in a process of their own, because TRITON_INTERPRET=1 has to be set before
Triton is imported. What the interpreter cannot show: masks that a compiler gets wrong, the device's
approximate exp and rsqrt, races, speed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
import triton.language as tl
from torch import Tensor
from triton.runtime import interpreter

from model.backends import cuda
from model.backends.choose import fused_network_for
from model.backends.cuda import CudaNetwork, Gelu, gelu_after_product, gelu_in_product
from model.backends.eager import EagerNetwork
from model.backends.kernels import add_gelu_, add_norm_modulate, norm_modulate
from model.networks.blocks import modulate
from model.networks.dit import DiT
from tests.support.networks import inputs_for, randomise, relative_error, tiny

# exp(-x) of a very negative x is infinite, and the sigmoid 0: as it should be.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in exp")

DTYPES = [torch.float32, torch.bfloat16]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2.0**-8}
"""Relative to the largest value; for bf16 half a unit in its last place, twice."""


@pytest.fixture(scope="module", autouse=True)
def _round_to_nearest() -> Iterator[None]:
    """Have the interpreter round fp32 to bf16 as devices do; it truncates."""
    convert = interpreter._convert_float

    def rounded(
        values: npt.NDArray[np.float32], source: tl.dtype, target: tl.dtype, mode: object
    ) -> npt.NDArray[np.uint16]:
        if (source, target) != (tl.float32, tl.bfloat16):
            converted: npt.NDArray[np.uint16] = convert(values, source, target, mode)
            return converted
        return torch.from_numpy(values.copy()).bfloat16().view(torch.uint16).numpy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter, "_convert_float", rounded)
        yield


def tensors(count: int, *shape: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, *shape, generator=generator).to(dtype).unbind(0)


def vectors(rows: int, width: int, *, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """gate, shift and scale as the network has them: side by side in one product."""
    (product,) = tensors(1, rows, 3, 1, width, dtype=dtype)
    return product.unbind(1)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, 64, 1152), torch.float32),
        ((1, 64, 1152), torch.bfloat16),
        ((8, 64, 256), torch.float32),
        ((1, 256, 384), torch.bfloat16),
    ],
)
def test_residual_norm_and_modulation(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    x, y = tensors(2, *shape, dtype=dtype)
    gate, shift, scale = vectors(shape[0], shape[2], dtype=dtype)
    expected = torch.addcmul(x.double(), gate.double(), y.double())
    total, out = add_norm_modulate(x, gate, y, shift=shift, scale=scale)
    assert (total.dtype, out.dtype) == (dtype, dtype)
    assert relative_error(total, expected) < TOLERANCE[dtype]
    assert (
        relative_error(out, modulate(expected, shift.double(), scale.double())) < TOLERANCE[dtype]
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 4, 1152), (8, 5, 256)])
def test_norm_and_modulation(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    (x,) = tensors(1, *shape, dtype=dtype)
    _, shift, scale = vectors(shape[0], shape[2], dtype=dtype)
    expected = modulate(x.double(), shift.double(), scale.double())
    assert relative_error(norm_modulate(x, shift, scale), expected) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 64, 4608), (3, 7, 1536), (1, 5, 100)])
def test_bias_and_gelu(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    x, (bias,) = 4 * tensors(1, *shape, dtype=dtype)[0], tensors(1, shape[2], dtype=dtype)
    x[0, 0, :2] = torch.tensor([-40.0, 40.0])
    expected = F.gelu(x.double() + bias.double(), approximate="tanh")
    assert relative_error(add_gelu_(x, bias), expected) < TOLERANCE[dtype]


def test_a_large_mean_costs_the_norm_no_digits() -> None:
    """The variance is taken of centred values, not as a difference of squares."""
    (x,) = tensors(1, 1, 4, 1152, dtype=torch.float32)
    _, shift, scale = vectors(1, 1152, dtype=torch.float32)
    x += 1000
    expected = modulate(x.double(), shift.double(), scale.double())
    assert relative_error(norm_modulate(x, shift, scale), expected) < 1e-4


def test_tokens_as_small_as_epsilon_are_normalised_with_it() -> None:
    x = 1e-3 * tensors(1, 1, 4, 1152, dtype=torch.float32)[0]
    _, shift, scale = vectors(1, 1152, dtype=torch.float32)
    expected = modulate(x.double(), shift.double(), scale.double())
    assert relative_error(norm_modulate(x, shift, scale), expected) < 1e-5


@pytest.mark.parametrize(("way", "kind"), [(gelu_after_product, "tanh"), (gelu_in_product, "none")])
def test_a_product_with_its_gelu(way: Gelu, kind: str) -> None:
    """On the CPU, torch's own fusion has another GELU."""
    (x,), (bias,) = tensors(1, 2, 5, 64, dtype=torch.float32), tensors(1, 96, dtype=torch.float32)
    (weight,) = tensors(1, 96, 64, dtype=torch.float32)
    expected = F.gelu(F.linear(x.double(), weight.double(), bias.double()), approximate=kind)
    assert relative_error(way(x, weight, bias), expected) < 1e-5


class Ways:
    """Two ways to a GELU, on a clock that only they move on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.seconds = {"gelu_in_product": 1.0, "gelu_after_product": 1.0}
        self.scale = 1.0
        for name in self.seconds:
            monkeypatch.setattr(cuda, name, partial(self._gelu, name))

    def _gelu(self, name: str, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        self.now += self.seconds[name]
        gelu = F.gelu(F.linear(x, weight, bias), approximate="tanh")
        return gelu * self.scale if name == "gelu_in_product" else gelu

    def fastest(self) -> str:
        chosen = cuda.fastest_gelu(tiny(), clock=lambda: self.now)
        (name,) = [name for name in self.seconds if getattr(cuda, name) is chosen]
        return name


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Ways:
    return Ways(monkeypatch)


@pytest.mark.parametrize("name", ["gelu_in_product", "gelu_after_product"])
def test_the_faster_gelu_is_chosen(ways: Ways, name: str) -> None:
    ways.seconds[name] = 0.5
    assert ways.fastest() == name


def test_a_gelu_in_the_product_that_is_wrong_is_not_chosen(ways: Ways) -> None:
    ways.seconds["gelu_in_product"], ways.scale = 0.5, 1.001
    assert ways.fastest() == "gelu_after_product"


def test_a_gelu_in_the_product_that_torch_does_not_support_is_not_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unsupported(*_: Tensor) -> Tensor:
        raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED")

    monkeypatch.setattr(cuda, "gelu_in_product", unsupported)
    assert cuda.fastest_gelu(tiny()) is gelu_after_product


@pytest.mark.parametrize("measure", [True, False])
def test_the_gelu_is_only_measured_where_starts_may_differ(
    measure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "fastest_gelu", lambda dit: gelu_in_product)
    lines = list[str]()
    fused_network_for(tiny(), timesteps=1000, consume=True, measure=measure, report=lines.append)
    chosen = "the GELU is part of the product before it, which is faster here"
    assert (chosen in lines) is measure


def small(width: int, *, rows: int) -> tuple[DiT, tuple[Tensor, Tensor, Tensor]]:
    dit = randomise(DiT(input_size=4, hidden_size=width, depth=2, num_heads=4, num_classes=10))
    x, t, y = inputs_for(dit, rows)
    return dit.eval(), (x, t.round(), y)


def mean_error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize(("width", "rows"), [(1152, 1), (256, 5), (384, 2)])
@torch.inference_mode()
def test_the_fused_network_answers_like_the_plain_one(width: int, rows: int) -> None:
    dit, inputs = small(width, rows=rows)
    plain, fused = EagerNetwork(dit, timesteps=1000), CudaNetwork(dit, timesteps=1000)
    exact = plain(*inputs)
    assert relative_error(fused(*inputs), exact) < 1e-5
    dit.to(torch.bfloat16)
    plain, fused = EagerNetwork(dit, timesteps=1000), CudaNetwork(dit, timesteps=1000)
    assert mean_error(fused(*inputs), exact) < 1.1 * mean_error(plain(*inputs), exact)


@torch.inference_mode()
def test_it_is_chosen_where_the_kernels_work() -> None:
    dit, lines = tiny().eval(), list[str]()
    network = fused_network_for(dit, timesteps=1000, consume=True, report=lines.append)
    assert type(network) is CudaNetwork
    assert lines == ["compiling the fused kernels"]
    assert all(each.linear.weight.is_meta for each in dit.modulations)


@pytest.mark.parametrize("kernel", ["norm_modulate", "add_gelu_"])
def test_it_is_not_chosen_where_a_kernel_errs(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    works = getattr(cuda, kernel)
    monkeypatch.setattr(cuda, kernel, lambda *tensors: works(*tensors) * 1.001)
    lines = list[str]()
    network = fused_network_for(tiny(), timesteps=1000, consume=True, report=lines.append)
    assert type(network) is EagerNetwork
    assert lines[-1] == (
        "running without fused kernels, which is slower:"
        " RuntimeError: a kernel's values differ from torch's by 0.001"
    )
