"""torch's exceptions about the device become ours; all others pass."""

from __future__ import annotations

import pytest
import torch

from model.device import DeviceLost, OutOfMemory, device_faults

OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously"),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("CUDNN_BACKEND_TENSOR_DESCRIPTOR cudnnFinalize failed: CUDNN_STATUS_ALLOC_FAILED"),
]
LOST = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    torch.AcceleratorError("CUDA error: unspecified"),
    torch.AcceleratorError("the device is gone"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx( handle`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED_CUDART"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
    RuntimeError("CUDA driver error: unspecified launch failure"),
    RuntimeError("CUDA driver error: misaligned address"),
    RuntimeError("CUDA error: uncorrectable ECC error encountered"),
]
OTHERS = [
    RuntimeError("injected"),
    RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling `cublasGemmEx( handle`"),
    RuntimeError("No available kernel. Aborting execution."),
    ZeroDivisionError("injected"),
    ValueError("CUDA error: out of memory"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
def test_what_could_not_allocate_is_out_of_memory(error: Exception) -> None:
    with pytest.raises(OutOfMemory) as caught, device_faults():
        raise error
    assert str(caught.value) == str(error)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", LOST, ids=str)
def test_what_breaks_the_device_is_a_lost_device(error: Exception) -> None:
    with pytest.raises(DeviceLost) as caught, device_faults():
        raise error
    assert str(caught.value) == str(error)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_any_other_error_passes_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, device_faults():
        raise error
    assert caught.value is error


@pytest.mark.parametrize("error", [OutOfMemory("device-side assert"), DeviceLost("CUDA")])
def test_our_own_exceptions_pass_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, device_faults(), device_faults():
        raise error
    assert caught.value is error


def run_out_of_memory_in_a_capture() -> None:
    """As torch.cuda.graph does: the end of a failed capture raises an error of its own."""
    try:
        raise torch.OutOfMemoryError("CUDA out of memory")
    finally:
        raise torch.AcceleratorError(
            "CUDA error: operation failed due to a previous error during capture"
        )


def test_out_of_memory_in_a_capture_is_not_a_lost_device() -> None:
    with pytest.raises(OutOfMemory), device_faults():
        run_out_of_memory_in_a_capture()


def test_another_failed_capture_is_a_lost_device() -> None:
    with pytest.raises(DeviceLost), device_faults():
        raise torch.AcceleratorError("CUDA error: operation not permitted when stream is capturing")


@pytest.mark.gpu
def test_a_real_allocation_that_is_too_large_is_out_of_memory() -> None:
    with pytest.raises(OutOfMemory), device_faults():
        torch.empty(1 << 50, dtype=torch.uint8, device="cuda")
