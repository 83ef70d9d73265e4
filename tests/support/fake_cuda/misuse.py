"""DeviceMisuse: what a test fails with if the code breaks a rule of the device."""

from __future__ import annotations


class DeviceMisuse(BaseException):
    """The code does what a CUDA device forbids, or what would make the host wait for it.

    Not an Exception: the engine would blame an image for it and go on.
    """
