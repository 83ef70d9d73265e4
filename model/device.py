"""The device: choosing it and a dtype, and its faults as our own exceptions."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

DEVICE_FILES = Path("/dev")
"""Where the driver shows each GPU as a file nvidiaN, whether torch can use it or not."""

_ABSENT = {
    "not compiled with CUDA": "install a torch build with CUDA (TORCH_INDEX)",
    "no NVIDIA driver": "install the driver; in a container, pass the GPU in (--gpus all)",
    "No CUDA GPUs are available": "check CUDA_VISIBLE_DEVICES and nvidia-smi",
}
"""torch's words where there is no GPU, and what to do if there should be one."""

_UNUSABLE = {
    "driver on your system is too old": "update the driver, or install a torch build for an older"
    " CUDA (TORCH_INDEX)",
    "busy or unavailable": "another process holds it in exclusive mode (see nvidia-smi)",
    "no kernel image": "install a torch build for this GPU's generation (TORCH_INDEX)",
    "out of memory": "other processes fill its memory (see nvidia-smi)",
}
"""torch's words for a GPU that cannot be used, and what to do about it."""


def choose_device(name: str, report: Callable[[str], None] = warnings.warn) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` into a device; a CUDA one has an index.

    ``auto`` is the first CUDA device, or the CPU if there is none or it cannot be used; ``cuda`` is
    the current CUDA device. A CUDA device has run a kernel when it is returned, and is the calling
    thread's current one, which events and pinned memory follow.

    Args:
        name: the device.
        report: called with one line if ``auto`` is the CPU although there is a GPU.

    Raises:
        ValueError: there is no such device, or it cannot be used; one line that says what to do.
    """
    if name == "cpu":
        return torch.device("cpu")
    if name == "auto":
        return _first_cuda_or_cpu(report)
    if not re.fullmatch(r"cuda(:[0-9]+)?", name):
        raise ValueError(f"no device {name}: it should be auto, cpu, cuda or cuda:N")
    return _open_cuda(name)


def _first_cuda_or_cpu(report: Callable[[str], None]) -> torch.device:
    try:
        return _open_cuda("cuda:0")
    except ValueError as error:
        absent = any(words in str(error) for words in _ABSENT)
        if not absent or any(DEVICE_FILES.glob("nvidia[0-9]*")):
            report(f"running on the CPU: {error}")
    return torch.device("cpu")


def _open_cuda(name: str) -> torch.device:
    """Make a CUDA device current and run a kernel on it: some faults show no earlier.

    torch.cuda.is_available() is not asked: it only warns about a driver that `torch.cuda.init`
    refuses. The index is compared as a number: torch.device("cuda:256") is cuda:0.
    """
    number = name.removeprefix("cuda").removeprefix(":")
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        count = torch.cuda.device_count()
        index = int(number) if number else torch.cuda.current_device()
        if index < count:
            device = torch.device("cuda", index)
            torch.cuda.set_device(device)
            _run_kernel(device)
            return device
    except (RuntimeError, AssertionError, torch.cuda.DeferredCudaCallError) as error:
        problem = f"cannot use {name} with torch {torch.__version__}: {_reason(error)}"
        raise ValueError(problem) from error
    raise ValueError(f"no device {name}: torch {torch.__version__} sees {count} CUDA devices")


def _run_kernel(device: torch.device) -> None:
    """Create the device's context, run a kernel in it and wait for the result."""
    torch.ones(1, device=device).neg().item()


def _reason(error: Exception) -> str:
    """torch's reason in one line, and what to do about it."""
    line = str(error).strip().partition("\n")[0].partition(". Please ")[0].rstrip(".")
    known = _ABSENT | _UNUSABLE
    advice = next((known[words] for words in known if words in line), None)
    return line if advice is None else f"{line}; {advice}"


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """``auto`` is bfloat16 on CUDA and on a CPU with bfloat16 products, else float32."""
    if name == "auto":
        halves = device.type == "cuda" or (device.type == "cpu" and cpu_multiplies_bfloat16())
        return torch.bfloat16 if halves else torch.float32
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    return dtypes[name]


def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has bfloat16 products (AVX512-BF16 or AMX), about twice as fast as fp32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def flush_denormals() -> bool:
    """Take denormal numbers, below 1.2e-38, for 0 in this thread; False if the CPU cannot.

    Trained weights can hold many, and a product with one takes hundreds of times as long. Worker
    threads inherit the setting when they start: call it before the thread's first computation.
    """
    return bool(torch.set_flush_denormal(True))


class DeviceLost(RuntimeError):
    """The device no longer responds; nothing on it can be trusted or retried."""


class OutOfMemory(RuntimeError):
    """Not enough device memory; the same with fewer images may succeed."""


_OUT_OF_MEMORY = re.compile(r"CUDA.*out of memory|\bCU[A-Z]+_STATUS_\w*ALLOC\w*_FAILED")
"""The runtime, the driver or Triton; cuBLAS, cuDNN and the like."""

_LOST = re.compile(
    r"\bCU[A-Z]+_STATUS_(EXECUTION_FAILED|MAPPING_ERROR)"
    r"|device-side assert|illegal memory access|illegal instruction|misaligned address"
    r"|unspecified launch failure|launch timed out|hardware stack error|invalid program counter"
    r"|uncorrectable (ECC|NVLink) error|context is destroyed"
)
"""Errors that no later call on the device survives, in the words of cudaGetErrorString.

https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html
"""


@contextmanager
def device_faults() -> Iterator[None]:
    """Turn torch's exceptions about the device into ours. All others pass unchanged.

    The driver, cuBLAS and cuDNN report by AcceleratorError or by plain RuntimeError; which of our
    exceptions it is, the message says. An AcceleratorError with an unknown one is a lost device.

    Raises:
        OutOfMemory: torch, the driver or a library could not allocate memory.
        DeviceLost: the device failed in another way.
    """
    try:
        yield
    except (DeviceLost, OutOfMemory):
        raise
    except RuntimeError as error:
        if _is_out_of_memory(error):
            raise OutOfMemory(str(error)) from error
        if isinstance(error, torch.AcceleratorError) or _LOST.search(str(error)):
            raise DeviceLost(str(error)) from error
        raise


def _is_out_of_memory(error: RuntimeError) -> bool:
    if isinstance(error, torch.OutOfMemoryError) or _OUT_OF_MEMORY.search(str(error)):
        return True
    # An error that ends a graph's capture is reported again, in general words, by the capture's end.
    earlier = error.__context__ if "captur" in str(error) else None
    return isinstance(earlier, RuntimeError) and _is_out_of_memory(earlier)
