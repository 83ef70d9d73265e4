"""Signer: what adds a signed statement of origin to a file."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Signer(Protocol):
    """Called from several threads at once."""

    @property
    def expires(self) -> datetime:
        """When it stops signing."""
        ...

    def sign(self, file: bytes, content_type: str) -> bytes:
        """A PNG, WebP or JPEG -> the same with a manifest; all other bytes stay as they are.

        Raises:
            SigningFailed: the file cannot be signed now.
        """
        ...
