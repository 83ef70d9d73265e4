"""The fused kernels: their values in Triton's interpreter, their compilation, and on a device."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
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

from model.backends import kernels
from model.backends.cuda import CudaNetwork, check_kernels

if TYPE_CHECKING:
    from triton.runtime.jit import JITFunction

ROOT = Path(__file__).parents[3]
INTERPRETED = Path(__file__).with_name("interpreted_cuda.py")
INTEGERS = {"vector_stride", "rows"}
WARP = 32


def test_in_tritons_interpreter() -> None:
    """All of interpreted_cuda.py, in a process that has the interpreter's setting from its start."""
    command = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*command, str(INTERPRETED)],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def ptx_of(kernel: JITFunction, width: int, pointer: str, target: GPUTarget) -> str:
    """A kernel compiled to a cubin, for tensors with aligned rows; its PTX."""
    gelu = kernel is kernels._add_gelu
    launch = kernels.gelu_launch() if gelu else kernels.norm_launch(width)
    constants = {name: value for name, value in launch.items() if name in kernel.arg_names}
    constants["D"] = 4 * width if gelu else width
    signature = {
        name: "constexpr" if name in constants else "i32" if name in INTEGERS else pointer
        for name in kernel.arg_names
    }
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(kernel.arg_names)
        if name not in constants and name != "rows"  # on which the kernel is not specialised
    }
    source = ASTSource(kernel, signature=signature, constexprs=constants, attrs=aligned)
    options = {name: value for name, value in launch.items() if name not in constants}
    compiled = compile(source, target=target, options=options)
    assert compiled.asm["cubin"]
    ptx: str = compiled.asm["ptx"]
    return ptx


@pytest.mark.parametrize("pointer", ["*fp32", "*bf16"])
@pytest.mark.parametrize("capability", [80, 90, 100])
def test_kernels_compile_without_spills(
    capability: int,
    pointer: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """At DiT-XL/2's width: nothing but registers, and 16 bytes per load. Needs no device."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DUMP_PTXAS_LOG", "1")
    name = sm_arch_from_capability(capability)
    if f"'{name}'" not in subprocess.check_output(
        [get_ptxas(capability).path, "--help"], text=True
    ):
        pytest.skip(f"Triton's ptxas does not know {name}")
    for kernel in (kernels._norm_modulate, kernels._add_norm_modulate, kernels._add_gelu):
        ptx = ptx_of(kernel, 1152, pointer, GPUTarget("cuda", capability, WARP))
        log = capfd.readouterr().out
        assert re.findall(r"(\d+) bytes spill", log) == ["0", "0"], log
        assert "ld.global.v4.b32" in ptx
        assert "st.global.v4.b32" in ptx


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


@torch.inference_mode()
def test_each_kernel_is_compiled_once_for_all_row_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the launch path that a device takes: only the driver is not Triton's."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    compiled = (kernels._norm_modulate, kernels._add_norm_modulate, kernels._add_gelu)
    for kernel in compiled:
        monkeypatch.setattr(kernel, "device_caches", defaultdict(kernel.create_binder))
    stub = StubDriver()
    monkeypatch.setattr(driver, "_active", stub)
    dit = DiT_models["DiT-XL/2"](depth=2, input_size=8).bfloat16().eval()
    network = CudaNetwork(dit, timesteps=1000)
    for rows in (1, 2, 3):
        stub.launches.clear()
        network(*inputs_for(dit, rows))
        block = ["_add_norm_modulate", "_add_gelu", "_add_norm_modulate"]
        assert stub.launches == ["_norm_modulate", *block, *block]
    assert [len(kernel.device_caches[0][0]) for kernel in compiled] == [1, 1, 1]


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
