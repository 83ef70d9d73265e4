"""C2paSigner: signs files with the library of the Content Authenticity Initiative."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime

from c2pa import (
    Builder,
    C2paBuilderIntent,
    C2paDigitalSourceType,
    C2paError,
    C2paSignerInfo,
    Context,
    Signer,
)
from PIL import Image

from service import __version__
from service.errors import SigningFailed
from service.images.metadata.manifest import LONGEST_MANIFEST, without_manifest
from service.images.metadata.xmp import TOOL
from service.images.signing.credentials import PURPOSES, BadCertificate, Credentials

NO_AUTHORITY = None
"""No time-stamping authority: signing needs no network."""

_SETTINGS = {
    "builder": {"thumbnail": {"enabled": False}},  # a second picture, larger than a small first one
    "trust": {"trust_config": "\n".join(PURPOSES)},  # else emailProtection alone
    "verify": {"ocsp_fetch": False, "remote_manifest_fetch": False},
}
_MANIFEST = {"claim_generator_info": [{"name": TOOL, "version": __version__}]}


def _now() -> datetime:
    return datetime.now(UTC)


class C2paSigner:
    """A `Signer`. Nothing that it does needs the network.

    Args:
        clock: the time now.

    Raises:
        BadCertificate: a first picture cannot be signed with it.
    """

    def __init__(self, credentials: Credentials, clock: Callable[[], datetime] = _now) -> None:
        self._expires = credentials.expires
        self._clock = clock
        try:
            info = C2paSignerInfo(
                credentials.algorithm, credentials.chain, credentials.key, NO_AUTHORITY
            )
            self._context = Context.from_dict(_SETTINGS, signer=Signer.from_info(info))
            self._check(_smallest_picture())
        except (C2paError, SigningFailed) as error:
            raise BadCertificate(f"cannot be used for signing ({_first_line(error)})") from None

    @property
    def expires(self) -> datetime:
        """When the first certificate of the chain to do so expires."""
        return self._expires

    def sign(self, file: bytes, content_type: str) -> bytes:
        """Add a manifest: that this service created the picture with a trained model."""
        if self._clock() > self._expires:
            raise SigningFailed(f"the certificate expired on {self._expires:%Y-%m-%d %H:%M} UTC")
        signed = io.BytesIO()
        try:
            with Builder(_MANIFEST, self._context) as builder:
                builder.set_intent(
                    C2paBuilderIntent.CREATE, C2paDigitalSourceType.TRAINED_ALGORITHMIC_MEDIA
                )
                builder.sign(content_type, io.BytesIO(file), signed)
        except C2paError as error:
            raise SigningFailed(f"the picture could not be signed: {_first_line(error)}") from error
        return signed.getvalue()

    def _check(self, picture: bytes) -> None:
        """Sign it, and find the signature where /verify will look for it."""
        signed = self.sign(picture, "image/png")
        size = len(signed) - len(picture)
        if size > LONGEST_MANIFEST:
            raise SigningFailed(f"signatures take {size} bytes, at most {LONGEST_MANIFEST} may be")
        assert without_manifest(signed) == picture, "this is a bug: manifests are elsewhere"


def _smallest_picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "PNG")
    return buffer.getvalue()


def _first_line(error: Exception) -> str:
    """The library's reasons go on for several lines, with addresses in the manifest."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]).partition(" (self#")[0] if lines else type(error).__name__
