"""The device and the dtype that a setting stands for.

A stand-in for torch.cuda says what torch says; that torch does say it, only a GPU can show.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from model import device as devices
from model.device import choose_device, choose_dtype, cpu_multiplies_bfloat16

CPU = torch.device("cpu")

OLD_DRIVER = RuntimeError(
    "The NVIDIA driver on your system is too old (found version 12040). Please update your GPU driver"
    " by downloading and installing a new version from the URL:"
    " http://www.nvidia.com/Download/index.aspx Alternatively, go to: https://pytorch.org to install"
    " a PyTorch version that has been compiled with your version of the CUDA driver."
)
NO_DRIVER = RuntimeError(
    "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a"
    " driver from http://www.nvidia.com/Download/index.aspx"
)
NO_GPU = RuntimeError("No CUDA GPUs are available")
NOT_BUILT = AssertionError("Torch not compiled with CUDA enabled")
BROKEN_NODE = RuntimeError(
    "Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling"
    " NumCudaDevices() that might have already set an error? Error 802: system not yet initialized"
)
LATE = torch.cuda.DeferredCudaCallError(
    "CUDA call failed lazily at initialization with error: device >= 0\n\nCUDA call was originally"
)
BUSY = torch.AcceleratorError(
    "CUDA error: CUDA-capable device(s) is/are busy or unavailable\nCUDA kernel errors might be"
    " asynchronously reported at some other API call"
)
OTHER_GENERATION = torch.AcceleratorError(
    "CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors"
)
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB. GPU 0 is full.")

UNUSABLE = [
    (OLD_DRIVER, "(found version 12040); update the driver, or install a torch build for an older"),
    (BROKEN_NODE, "Error 802: system not yet initialized"),
    (LATE, "device >= 0"),
]
ABSENT = [
    (NO_DRIVER, "Found no NVIDIA driver on your system; install the driver"),
    (NO_GPU, "No CUDA GPUs are available; check CUDA_VISIBLE_DEVICES"),
    (NOT_BUILT, "Torch not compiled with CUDA enabled; install a torch build with CUDA"),
]
FAILING_KERNEL = [
    (BUSY, "busy or unavailable; another process holds it in exclusive mode"),
    (OTHER_GENERATION, "no kernel image is available for execution on the device; install a torch"),
    (FULL, "GPU 0 is full; other processes fill its memory"),
]


class FakeCuda:
    """As many CUDA devices as it is told, as far as `choose_device` uses torch.cuda."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int = 2) -> None:
        self.count = count
        self.current = 0
        self.ran: list[torch.device] = []
        self.init_error: Exception | None = None
        self.kernel_error: Exception | None = None
        for name in ("init", "device_count", "current_device", "set_device"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(devices, "_run_kernel", self.run_kernel)

    def init(self) -> None:
        if self.init_error is not None:
            raise self.init_error

    def device_count(self) -> int:
        return self.count

    def current_device(self) -> int:
        return self.current

    def set_device(self, device: torch.device) -> None:
        if device.index is None:  # torch's own words
            raise ValueError(
                f"Expected a torch.device with a specified index or an integer, but got:{device}"
            )
        self.current = device.index

    def run_kernel(self, device: torch.device) -> None:
        if self.kernel_error is not None:
            raise self.kernel_error
        self.ran.append(device)


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


@pytest.fixture(autouse=True)
def device_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder in place of /dev."""
    monkeypatch.setattr(devices, "DEVICE_FILES", tmp_path)
    return tmp_path


def refusal(name: str) -> str:
    """The line with which a device is refused."""
    with pytest.raises(ValueError, match=r"^(no device|cannot use) ") as caught:
        choose_device(name)
    line = str(caught.value)
    assert "\n" not in line
    return line


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
    assert "cuda:99" in refusal("cuda:99")


@pytest.mark.parametrize(
    ("name", "current", "index"),
    [
        ("cuda", 0, 0),
        ("cuda", 1, 1),
        ("cuda:0", 1, 0),
        ("cuda:1", 0, 1),
        ("cuda:01", 0, 1),
        ("auto", 1, 0),
    ],
)
def test_a_cuda_device_has_an_index_becomes_current_and_has_run_a_kernel(
    fake_cuda: FakeCuda, name: str, current: int, index: int
) -> None:
    fake_cuda.current = current
    assert choose_device(name) == torch.device("cuda", index)
    assert fake_cuda.current == index
    assert fake_cuda.ran == [torch.device("cuda", index)]


@pytest.mark.parametrize("index", ["2", "7", "128", "256", "300", "99999999999999999999"])
def test_a_missing_cuda_device_is_named_with_how_many_there_are(
    fake_cuda: FakeCuda, index: str
) -> None:
    assert refusal(f"cuda:{index}").startswith(f"no device cuda:{index}: ")
    assert refusal(f"cuda:{index}").endswith(" sees 2 CUDA devices")
    assert fake_cuda.ran == []


@pytest.mark.usefixtures("fake_cuda")
@pytest.mark.parametrize(
    "name", ["cuda:-1", "cuda:", "cuda: 1", "cuda:1:1", "cuda:x", "mps", "", "cpu:0", "cuda:1\n"]
)
def test_what_is_not_a_device_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="it should be auto, cpu, cuda or cuda:N"):
        choose_device(name)


def test_cuda_without_any_device_is_refused(fake_cuda: FakeCuda) -> None:
    fake_cuda.count = 0
    line = refusal("cuda")
    assert line.startswith("no device cuda: ")
    assert line.endswith(" sees 0 CUDA devices")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:1"])
@pytest.mark.parametrize(("error", "reason"), UNUSABLE + ABSENT)
def test_cuda_that_does_not_start_is_refused_with_the_reason(
    fake_cuda: FakeCuda, name: str, error: Exception, reason: str
) -> None:
    fake_cuda.init_error = error
    line = refusal(name)
    assert line.startswith(f"cannot use {name} with torch {torch.__version__}: ")
    assert reason in line
    assert "Please" not in line


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:1"])
@pytest.mark.parametrize(("error", "reason"), FAILING_KERNEL)
def test_a_device_that_runs_no_kernel_is_refused_with_the_reason(
    fake_cuda: FakeCuda, name: str, error: Exception, reason: str
) -> None:
    fake_cuda.kernel_error = error
    line = refusal(name)
    assert line.startswith(f"cannot use {name} with torch")
    assert reason in line


@pytest.mark.parametrize(("error", "reason"), UNUSABLE)
def test_auto_is_the_cpu_with_one_line_if_cuda_does_not_start(
    fake_cuda: FakeCuda, error: Exception, reason: str
) -> None:
    fake_cuda.init_error = error
    lines: list[str] = []
    assert choose_device("auto", lines.append) == CPU
    (line,) = lines
    assert line.startswith("running on the CPU: cannot use cuda:0 ")
    assert reason in line
    assert "\n" not in line


@pytest.mark.parametrize(("error", "reason"), FAILING_KERNEL)
def test_auto_is_the_cpu_with_one_line_if_the_device_runs_no_kernel(
    fake_cuda: FakeCuda, error: Exception, reason: str
) -> None:
    fake_cuda.kernel_error = error
    lines: list[str] = []
    assert choose_device("auto", lines.append) == CPU
    (line,) = lines
    assert reason in line


@pytest.mark.parametrize(("error", "reason"), ABSENT)
@pytest.mark.parametrize(
    ("files", "warned"),
    [
        ([], False),
        (["null", "nvidia-uvm", "nvidiactl"], False),
        (["nvidia0", "nvidiactl"], True),
        (["nvidia12"], True),
    ],
)
def test_auto_says_nothing_only_where_there_is_no_gpu(
    fake_cuda: FakeCuda,
    device_files: Path,
    error: Exception,
    reason: str,
    files: list[str],
    warned: bool,
) -> None:
    fake_cuda.init_error = error
    for name in files:
        (device_files / name).touch()
    lines: list[str] = []
    assert choose_device("auto", lines.append) == CPU
    assert len(lines) == warned
    assert all(reason in line for line in lines)


def test_auto_warns_if_nobody_listens(fake_cuda: FakeCuda) -> None:
    fake_cuda.init_error = OLD_DRIVER
    with pytest.warns(UserWarning, match="running on the CPU: .* driver on your system is too old"):
        assert choose_device("auto") == CPU


def test_auto_does_not_ask_what_only_warns(
    fake_cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_available() -> bool:
        warnings.warn(f"CUDA initialization: {OLD_DRIVER}", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    fake_cuda.init_error = OLD_DRIVER
    lines: list[str] = []
    assert choose_device("auto", lines.append) == CPU
    assert len(lines) == 1


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_a_real_device_is_opened(name: str) -> None:
    lines: list[str] = []
    device = choose_device(name, lines.append)
    assert device == torch.device("cuda", device.index)
    assert device.index == torch.cuda.current_device()
    assert lines == []


@pytest.mark.gpu
def test_a_real_host_refuses_one_device_more_than_it_has() -> None:
    count = torch.cuda.device_count()
    assert refusal(f"cuda:{count}").endswith(f" sees {count} CUDA devices")
