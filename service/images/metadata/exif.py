"""Exif: where a WebP or JPEG from an untrusted source carries its parameters."""

from __future__ import annotations

from service.images.metadata.parts import first_parts

USER_COMMENT = b"ASCII\0\0\0"
"""What this service writes in front of the parameters, at the end of the EXIF data."""

EXIF_KINDS = frozenset({b"EXIF", b"\xe1"})
"""A chunk of a WebP, and JPEG's segment APP1."""


def comment_of(file: bytes) -> bytes | None:
    """The EXIF user comment as this service writes it; None if there is none."""
    for part in first_parts(file):
        _, marker, comment = part.content.partition(USER_COMMENT)
        if part.kind in EXIF_KINDS and marker:
            return comment.rstrip(b"\0")  # EXIF pads it to an even length
    return None
