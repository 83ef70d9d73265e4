"""The fused kernels: their values in Triton's interpreter, their compilation, and on a device."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from model.backends.eager import EagerNetwork
from model.networks.dit import DiT_models
from tests.support.networks import inputs_for, randomise, relative_error

pytest.importorskip("triton", reason="needs Triton: pip install -c constraints.txt --group kernels")
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas, sm_arch_from_capability
from triton.compiler import ASTSource, compile
from triton.runtime import driver

from model.backends import fused_step, kernels
from model.backends.cuda import (
    CudaNetwork,
    check_kernels,
    fastest_gelu,
    gelu_after_product,
    gelu_in_product,
)
from model.backends.fused_step import FusedStep, check_step
from model.backends.step import PLAN_COLUMNS, Buffers
from model.sampling.samplers import NO_PAST

if TYPE_CHECKING:
    from triton.runtime.jit import JITFunction

ROOT = Path(__file__).parents[3]
OF_THE_NETWORK = (kernels._norm_modulate, kernels._add_norm_modulate, kernels._add_gelu)
OF_THE_STEP = (fused_step._gather, fused_step._advance)
INTEGERS = {"vector_stride", "rows"}
LABELS = "y"  # of `_gather`: the only pointer to integers
WARP = 32


@pytest.mark.parametrize("file", ["interpreted_cuda.py", "interpreted_step.py"])
def test_in_tritons_interpreter(file: str) -> None:
    """All of a file, in a process that has the interpreter's setting from its start."""
    command = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*command, str(Path(__file__).with_name(file))],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def ptx_of(kernel: JITFunction, constants: dict[str, int], pointer: str, target: GPUTarget) -> str:
    """A kernel compiled to a cubin, for tensors with aligned rows; its PTX.

    ``constants``: what it is launched with, except tensors and their integers.
    """
    given = {name: value for name, value in constants.items() if name in kernel.arg_names}
    signature = {
        name: "constexpr" if name in given else "i32" if name in INTEGERS else pointer
        for name in kernel.arg_names
    }
    if LABELS in signature and kernel is fused_step._gather:
        signature[LABELS] = "*i64"
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(kernel.arg_names)
        if name not in given and name != "rows"  # on which the kernel is not specialised
    }
    source = ASTSource(kernel, signature=signature, constexprs=given, attrs=aligned)
    options = {name: value for name, value in constants.items() if name not in given}
    compiled = compile(source, target=target, options=options)
    assert compiled.asm["cubin"]
    ptx: str = compiled.asm["ptx"]
    return ptx


Check = Callable[["JITFunction", dict[str, int], str, int], None]
CAPABILITIES = [80, 90, 100]


@pytest.fixture
def assert_without_spills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Check:
    """Compile a kernel for a compute capability: nothing but registers, and 16 bytes per load."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DUMP_PTXAS_LOG", "1")

    def check(kernel: JITFunction, constants: dict[str, int], pointer: str, arch: int) -> None:
        name, ptxas = sm_arch_from_capability(arch), get_ptxas(arch).path
        if f"'{name}'" not in subprocess.check_output([ptxas, "--help"], text=True):
            pytest.skip(f"Triton's ptxas does not know {name}")
        ptx = ptx_of(kernel, constants, pointer, GPUTarget("cuda", arch, WARP))
        log = capfd.readouterr().out
        assert re.findall(r"(\d+) bytes spill", log) == ["0", "0"], log
        assert "ld.global.v4.b32" in ptx
        assert "st.global.v4.b32" in ptx

    return check


@pytest.mark.parametrize("pointer", ["*fp32", "*bf16"])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_kernels_compile_without_spills(
    capability: int, pointer: str, assert_without_spills: Check
) -> None:
    """At DiT-XL/2's width. Needs no device."""
    norm, gelu = {"D": 1152, **kernels.norm_launch(1152)}, {"D": 4608, **kernels.gelu_launch()}
    for kernel in (kernels._norm_modulate, kernels._add_norm_modulate):
        assert_without_spills(kernel, norm, pointer, capability)
    assert_without_spills(kernels._add_gelu, gelu, pointer, capability)


@pytest.mark.parametrize("side", [8, 32])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("history", [False, True])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_steps_kernels_compile_without_spills(
    capability: int, history: bool, channels: int, side: int, assert_without_spills: Check
) -> None:
    """With and without variance channels and histories, at the bundled model's size and DiT-XL/2's."""
    size = 4 * side * side
    width = len(PLAN_COLUMNS) + history * len(NO_PAST)
    gather = {"SIZE": size, "WIDTH": width, **fused_step.step_launch()}
    constants = gather | {"ANSWER": channels * size, "AREA": side * side, "HISTORY": history}
    assert_without_spills(fused_step._gather, gather, "*fp32", capability)
    assert_without_spills(fused_step._advance, constants, "*fp32", capability)


class StubDriver:
    """Triton's driver of an H100 that compiles, and notes launches instead of making them."""

    def __init__(self) -> None:
        self.launches: list[str] = []
        self.utils = self

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, WARP)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": 232448}

    def load_binary(self, *arguments: object) -> tuple[None, int, int, int, int]:
        """Module (None: nothing to unload), function, registers, spills, threads of a block."""
        return None, 1, 0, 0, 1024

    def launcher_cls(self, source: ASTSource, metadata: object) -> Callable[..., None]:
        return lambda *arguments: self.launches.append(source.name)


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StubDriver:
    """In the place of Triton's driver; what has been compiled before is forgotten."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for kernel in (*OF_THE_NETWORK, *OF_THE_STEP):
        monkeypatch.setattr(kernel, "device_caches", defaultdict(kernel.create_binder))
    stub = StubDriver()
    monkeypatch.setattr(driver, "_active", stub)
    return stub


def times_compiled(compiled: Sequence[JITFunction]) -> list[int]:
    return [len(kernel.device_caches[0][0]) for kernel in compiled]


@torch.inference_mode()
def test_each_kernel_is_compiled_once_for_all_row_counts(stub: StubDriver) -> None:
    """Through the launch path that a device takes: only the driver is not Triton's."""
    dit = DiT_models["DiT-XL/2"](depth=2, input_size=8).bfloat16().eval()
    network = CudaNetwork(dit, timesteps=1000)
    for rows in (1, 2, 3):
        stub.launches.clear()
        network(*inputs_for(dit, rows))
        block = ["_add_norm_modulate", "_add_gelu", "_add_norm_modulate"]
        assert stub.launches == ["_norm_modulate", *block, *block]
    assert times_compiled(OF_THE_NETWORK) == [1, 1, 1]


@torch.inference_mode()
def test_with_the_gelu_in_the_product_a_block_is_two_launches_of_ours(stub: StubDriver) -> None:
    dit = DiT_models["DiT-XL/2"](depth=2, input_size=8).bfloat16().eval()
    network = CudaNetwork(dit, timesteps=1000, gelu=gelu_in_product)
    network(*inputs_for(dit, 2))
    assert stub.launches == ["_norm_modulate", *["_add_norm_modulate"] * 4]


@torch.inference_mode()
def test_a_step_is_two_launches_at_any_row_count(stub: StubDriver) -> None:
    held = Buffers.zeros((4, 8, 8), slots=8, rows=8, device=torch.device("cpu"))
    step = FusedStep()
    for rows in (1, 2, 3, 8):
        stub.launches.clear()
        plan = torch.zeros(rows, held.plan_width)
        x, t, y = step.inputs(held, plan)
        assert (len(x), t.shape, y.dtype) == (rows, (rows,), torch.int64)
        step.advance(held, plan, torch.zeros(rows, 8, 8, 8))
        assert stub.launches == ["_gather", "_advance"]
    assert times_compiled(OF_THE_STEP) == [1, 1]


@pytest.fixture(params=[torch.float32, torch.bfloat16])
def networks(request: pytest.FixtureRequest) -> tuple[EagerNetwork, EagerNetwork]:
    """DiT-XL/2 with two blocks on the device: plain and fused."""
    dit = randomise(DiT_models["DiT-XL/2"](depth=2)).to("cuda", request.param).eval()
    check_kernels(dit)
    return EagerNetwork(dit, timesteps=1000), CudaNetwork(dit, timesteps=1000)


def rows_for(network: EagerNetwork, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    x, t, y = inputs_for(network._dit, rows)
    return x.cuda(), t.round().cuda(), y.cuda()


@pytest.mark.gpu
@torch.inference_mode()
def test_on_a_device_it_answers_like_the_plain_network(
    networks: tuple[EagerNetwork, EagerNetwork],
) -> None:
    plain, fused = networks
    tolerance = 1e-5 if plain.weight.dtype == torch.float32 else 0.03
    for rows in (1, 2, 3, 6):
        inputs = rows_for(plain, rows)
        assert relative_error(fused(*inputs), plain(*inputs)) < tolerance


@pytest.mark.gpu
@torch.inference_mode()
def test_a_captured_call_answers_like_an_eager_one(
    networks: tuple[EagerNetwork, EagerNetwork],
) -> None:
    _, fused = networks
    static, (x, t, y) = rows_for(fused, 4), rows_for(fused, 4)
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        fused(*static)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answer = fused(*static)
    inputs = x.flip(0), t.flip(0), y.flip(0)
    for buffer, values in zip(static, inputs):
        buffer.copy_(values)
    graph.replay()
    assert torch.equal(answer, fused(*inputs))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_on_a_device_both_gelus_agree(dtype: torch.dtype) -> None:
    dit = randomise(DiT_models["DiT-XL/2"](depth=1)).to("cuda", dtype).eval()
    assert fastest_gelu(dit) in (gelu_in_product, gelu_after_product)
    after = CudaNetwork(dit, timesteps=1000)
    within = CudaNetwork(dit, timesteps=1000, gelu=gelu_in_product)
    inputs = rows_for(after, 4)
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    assert relative_error(within(*inputs), after(*inputs)) < tolerance


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(4, 32, 32), (4, 8, 8), (4, 12, 12), (3, 7, 7)])
def test_on_a_device_the_step_agrees_with_the_plain_one(shape: tuple[int, int, int]) -> None:
    for out_channels in (shape[0], 2 * shape[0]):
        for history in (False, True):
            check_step(shape, out_channels, torch.device("cuda", 0), history=history)


@pytest.mark.gpu
@pytest.mark.parametrize("history", [False, True])
@torch.inference_mode()
def test_a_captured_step_does_what_a_launched_one_does(history: bool) -> None:
    device = torch.device("cuda", 0)
    check_step((4, 32, 32), 8, device, history=history)  # compiles
    generator = torch.Generator().manual_seed(0)
    plan = fused_step.sample_plan(generator, history=history).to(device)
    answers = torch.randn(len(plan), 8, 32, 32, device=device)
    launched, captured = (
        fused_step.sample_buffers((4, 32, 32), device, history=history) for _ in range(2)
    )
    graph, step = torch.cuda.CUDAGraph(), FusedStep()
    with torch.cuda.graph(graph):
        inputs = step.inputs(captured, plan)
        step.advance(captured, plan, answers)
    graph.replay()
    for ours, theirs in zip(inputs, step.inputs(launched, plan)):
        assert torch.equal(ours, theirs)
    step.advance(launched, plan, answers)
    in_use = slice(fused_step.SAMPLE_SLOTS)
    assert torch.equal(captured.latents[in_use], launched.latents[in_use])
    assert torch.equal(captured.x0[in_use], launched.x0[in_use])
    if captured.history is not None and launched.history is not None:
        assert torch.equal(captured.history[in_use], launched.history[in_use])
