"""The attention backend chosen is the fastest of those that agree with the plain formula."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from model.backends import attention
from model.backends.attention import (
    BACKENDS,
    ROUNDING,
    fastest_backend,
    relative_error,
    sample_qkv,
)
from model.device import DeviceLost, OutOfMemory
from model.networks.blocks import attend

CPU = torch.device("cpu")
SMALL = (2, 4, 16, 8)
FLASH, CUDNN, EFFICIENT, MATH = BACKENDS
BUNDLED = (128, 4, 64, 64)
LARGEST = (128, 16, 256, 72)

Result = Callable[[Tensor], Tensor]


def unchanged(result: Tensor) -> Tensor:
    return result


ENABLED: Mapping[SDPBackend, Callable[[], bool]] = {
    FLASH: torch.backends.cuda.flash_sdp_enabled,
    CUDNN: torch.backends.cuda.cudnn_sdp_enabled,
    EFFICIENT: torch.backends.cuda.mem_efficient_sdp_enabled,
    MATH: torch.backends.cuda.math_sdp_enabled,
}


@dataclass(frozen=True, slots=True)
class Kernel:
    """What a backend of the fake device makes of the right result, and how long it takes."""

    result: Result = unchanged
    seconds: float = 0.0
    error: Exception | None = None


class FakeDevice(TorchFunctionMode):
    """torch's attention with these kernels; a backend without one does not support the shape.

    It sees which backend was asked for and the strides that it got, not what a GPU's kernels do.
    """

    def __init__(self, kernels: Mapping[SDPBackend, Kernel]) -> None:
        super().__init__()
        self._kernels = kernels
        self.now = 0.0
        self.strides: dict[SDPBackend, set[tuple[tuple[int, ...], ...]]] = {}

    def __torch_function__(
        self,
        func: Callable[..., Tensor],
        types: Iterable[type],
        args: tuple[Tensor, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> Tensor:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        (backend,) = [each for each, enabled in ENABLED.items() if enabled()]
        if args[0].dtype == torch.float32 and backend is MATH:  # the reference
            return func(*args)
        self.strides.setdefault(backend, set()).add(tuple(each.stride() for each in args))
        if backend not in self._kernels:
            warnings.warn(
                f"{backend.name} not used because:", stacklevel=1
            )  # as torch does on CUDA
            raise RuntimeError("No available kernel. Aborting execution.")
        kernel = self._kernels[backend]
        if kernel.error is not None:
            raise kernel.error
        self.now += kernel.seconds
        with sdpa_kernel(MATH):
            return kernel.result(func(*args))


def choose(
    kernels: Mapping[SDPBackend, Kernel], shape: tuple[int, int, int, int] = SMALL
) -> tuple[SDPBackend, list[str]]:
    """The choice on a fake device, and the lines reported."""
    lines: list[str] = []
    with FakeDevice(kernels) as device:
        chosen = fastest_backend(
            shape,
            dtype=torch.bfloat16,
            device=CPU,
            report=lines.append,
            clock=lambda: device.now,
        )
    return chosen, lines


def last_tokens_wrong(result: Tensor) -> Tensor:
    """As of a kernel that works in tiles and reads past the last token."""
    result = result.clone()
    result[..., -1, :] *= 1.5
    return result


def one_value_wrong(result: Tensor) -> Tensor:
    result = result.clone()
    result.view(-1)[-1] += 1
    return result


def not_finite(result: Tensor) -> Tensor:
    result = result.clone()
    result.view(-1)[7] = torch.nan
    return result


SLOW, SLOWER = Kernel(seconds=0.005), Kernel(seconds=0.01)


@pytest.mark.parametrize("shape", [(2, 4, 16, 64), (1, 16, 64, 72)])
def test_the_chosen_backend_computes_attention(shape: tuple[int, int, int, int]) -> None:
    lines: list[str] = []
    backend = fastest_backend(shape, dtype=torch.float32, device=CPU, report=lines.append)
    assert backend in BACKENDS
    assert lines == []
    q = torch.randn(shape)
    with sdpa_kernel(backend):
        chosen = F.scaled_dot_product_attention(q, q, q)
    torch.testing.assert_close(chosen, F.scaled_dot_product_attention(q, q, q))


@pytest.mark.parametrize("fastest", BACKENDS)
def test_the_fastest_backend_is_chosen(fastest: SDPBackend) -> None:
    kernels = {each: Kernel() if each is fastest else SLOW for each in BACKENDS}
    assert choose(kernels) == (fastest, [])


@pytest.mark.parametrize("wrong", [last_tokens_wrong, one_value_wrong, not_finite])
def test_a_backend_that_differs_from_the_formula_is_reported_and_not_chosen(wrong: Result) -> None:
    chosen, lines = choose({FLASH: SLOW, CUDNN: Kernel(wrong), MATH: SLOWER})
    assert chosen is FLASH
    (line,) = lines
    assert line.startswith("attention: CUDNN_ATTENTION is not used, its error is ")


def test_rounding_is_not_an_error() -> None:
    def rounded(result: Tensor) -> Tensor:
        return result * (1 + ROUNDING[torch.bfloat16] / 4)

    assert choose({FLASH: SLOW, CUDNN: Kernel(rounded), MATH: SLOWER}) == (CUDNN, [])


def test_every_row_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    N, heads, T, _ = SMALL
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", heads * T * T)  # one row at once
    for row in range(N):

        def one_row_wrong(result: Tensor, row: int = row) -> Tensor:
            result = result.clone()
            result[row] += 1
            return result

        chosen, lines = choose({FLASH: Kernel(one_row_wrong), MATH: SLOW})
        assert chosen is MATH
        assert len(lines) == 1


def test_the_formula_is_chosen_if_nothing_works() -> None:
    assert choose({})[0] is MATH
    assert choose({each: Kernel(not_finite) for each in BACKENDS})[0] is MATH


def test_a_backend_that_needs_too_much_memory_is_not_chosen() -> None:
    full = Kernel(error=torch.OutOfMemoryError("CUDA out of memory"))
    assert choose({FLASH: SLOW, CUDNN: full, MATH: full}) == (FLASH, [])


def test_a_backend_that_breaks_the_device_ends_the_choice() -> None:
    broken = Kernel(error=torch.AcceleratorError("CUDA error: an illegal memory access"))
    with pytest.raises(DeviceLost):
        choose({FLASH: SLOW, CUDNN: broken, MATH: SLOW})


@pytest.mark.parametrize("step", ["sample_qkv", "relative_error"])
def test_no_memory_for_the_comparison_is_out_of_memory(
    monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: object, **__: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(attention, step, full)
    with pytest.raises(OutOfMemory):
        choose({FLASH: SLOW, MATH: SLOW})


def test_backends_are_measured_on_the_strides_that_a_block_gives_them() -> None:
    N, heads, T, head_dim = SMALL
    device, block = FakeDevice({each: Kernel() for each in BACKENDS}), FakeDevice({MATH: Kernel()})
    with device:
        fastest_backend(SMALL, dtype=torch.bfloat16, device=CPU, report=print)
    with block, sdpa_kernel(MATH):
        attend(torch.randn(N, T, 3 * heads * head_dim, dtype=torch.bfloat16), heads)
    width = heads * head_dim
    assert block.strides[MATH] == {((T * 3 * width, head_dim, 3 * width, 1),) * 3}
    assert device.strides == dict.fromkeys(BACKENDS, block.strides[MATH])


@pytest.mark.parametrize("dtype", ROUNDING)
def test_a_right_kernel_is_well_within_the_bound(dtype: torch.dtype) -> None:
    shape = (4, 6, 64, 64)
    qkv = sample_qkv(shape, dtype=dtype, device=CPU)
    with torch.inference_mode(), sdpa_kernel(FLASH):
        assert relative_error(attend(qkv, 6), qkv, 6) < ROUNDING[dtype] / 4


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore::UserWarning")  # torch says why a kernel is unavailable
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("shape", [BUNDLED, LARGEST], ids=["bundled", "XL-2"])
@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_every_backend_agrees_with_the_formula_on_cuda(
    backend: SDPBackend, shape: tuple[int, int, int, int], dtype: torch.dtype
) -> None:
    """A failure is a backend that the service does not use here, and says so at its start."""
    device, heads = torch.device("cuda:0"), shape[1]
    qkv = sample_qkv(shape, dtype=dtype, device=device)
    try:
        with torch.inference_mode(), sdpa_kernel(backend):
            result = attend(qkv, heads)
    except RuntimeError as unsupported:
        pytest.skip(str(unsupported))
    error = relative_error(result, qkv, heads)
    print(f"{backend.name} {shape} {dtype}: {error:.2e}")
    assert error <= ROUNDING[dtype]


@pytest.mark.gpu
def test_a_fused_backend_is_chosen_for_the_largest_model_on_cuda() -> None:
    backend = fastest_backend(
        LARGEST, dtype=torch.bfloat16, device=torch.device("cuda:0"), report=print
    )
    assert backend in BACKENDS[:3]


@pytest.mark.gpu
def test_the_backend_chosen_on_cuda_agrees_with_the_formula() -> None:
    device = torch.device("cuda:0")
    for dtype in (torch.float32, torch.bfloat16):
        backend = fastest_backend(BUNDLED, dtype=dtype, device=device, report=print)
        qkv = sample_qkv(BUNDLED, dtype=dtype, device=device)
        with torch.inference_mode(), sdpa_kernel(backend):
            assert relative_error(attend(qkv, BUNDLED[1]), qkv, BUNDLED[1]) <= ROUNDING[dtype]
