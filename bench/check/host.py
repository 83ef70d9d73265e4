"""Host: the GPU, its driver and the software that drives it."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass
from importlib import metadata

import torch

from bench.options import Options
from bench.report import machine
from bench.report.figures import Measured, Table


@dataclass(frozen=True, slots=True)
class Host:
    """The GPU and the versions of driver, CUDA, torch and Triton."""

    device: str

    @classmethod
    def planned(cls, options: Options) -> Host:
        return cls(options.device)

    def run(self, options: Options) -> Measured:
        facts = {
            "device": self.device,
            "name, driver": machine.gpu_name() or machine.cpu_name(),
            "torch": torch.__version__,
            "CUDA": torch.version.cuda,
            "cuDNN": _cudnn(),
            "Triton": _version("triton"),
            "C compiler": shutil.which("gcc") or shutil.which("clang"),
            "Python": platform.python_version(),
        }
        if options.on_gpu:
            facts |= gpu_facts()
        rows = tuple((name, fact or "none") for name, fact in facts.items())
        return Measured({}, (Table("Host", ("what", "found"), rows),))


def gpu_facts() -> dict[str, str | None]:
    """What torch says of the current GPU."""
    found = torch.cuda.get_device_properties(torch.cuda.current_device())
    free, total = torch.cuda.mem_get_info()
    return {
        "compute capability": f"{found.major}.{found.minor}",
        "multiprocessors": str(found.multi_processor_count),
        "memory": f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free",
        "built for": " ".join(torch.cuda.get_arch_list()),
    }


def _cudnn() -> str | None:
    version: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return None if version is None else str(version)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
