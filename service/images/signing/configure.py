"""Configure: from the settings to a signer, or to one line that says what is wrong with them."""

from __future__ import annotations

from pathlib import Path

from service.images.signing.signer import Signer
from service.settings import Settings, wrong_setting

EXTRA = (
    "signing needs the extra c2pa:"
    " .venv/bin/python -m pip install -c constraints.txt --editable '.[c2pa]'"
)


def signer_of(settings: Settings) -> Signer | None:
    """The signer that the settings describe; None if they describe none.

    Raises:
        SettingsError: a file is missing or cannot be used, or the extra is not installed.
    """
    certificate, key = settings.c2pa_certificate, settings.c2pa_key
    if certificate is None and key is None:
        return None
    if certificate is None:
        raise wrong_setting("c2pa_certificate", None, "it should be set, as DIT_C2PA_KEY is")
    if key is None:
        raise wrong_setting("c2pa_key", None, "it should be set, as DIT_C2PA_CERTIFICATE is")
    return _signer(certificate, key)


def _signer(certificate: Path, key: Path) -> Signer:
    try:
        from service.images.signing.c2pa_signer import C2paSigner
        from service.images.signing.credentials import BadCertificate, BadKey, read_credentials
    except ModuleNotFoundError:
        raise wrong_setting("c2pa_certificate", certificate, EXTRA) from None
    except (
        ImportError,
        OSError,
        RuntimeError,
    ) as error:  # its native library does not fit this machine
        reason = f"the c2pa library cannot be loaded ({str(error).partition(chr(10))[0]})"
        raise wrong_setting("c2pa_certificate", certificate, reason) from None
    try:
        return C2paSigner(read_credentials(certificate, key))
    except BadCertificate as error:
        raise wrong_setting("c2pa_certificate", certificate, f"it {error}") from None
    except BadKey as error:
        raise wrong_setting("c2pa_key", key, f"it {error}") from None
