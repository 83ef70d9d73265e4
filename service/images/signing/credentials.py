"""Credentials: a certificate chain and its private key, read from PEM files and checked.

What is checked is the certificate profile of the C2PA specification, so far as a mistake there is
likely. The C2PA library knows all of it, but calls every fault "the certificate is invalid".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

PURPOSES = {
    ExtendedKeyUsageOID.EMAIL_PROTECTION.dotted_string: "emailProtection",
    "1.3.6.1.5.5.7.3.36": "documentSigning",
    "1.3.6.1.4.1.62558.2.1": "C2PA claim signing",
}
"""Extended key usages of a certificate that may sign; the last is that of C2PA's own trust list."""

PEM_BEGIN = b"-----BEGIN CERTIFICATE-----"
LEAST_RSA_BITS = 2048
CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
KEYS = "a P-256, P-384 or P-521, an Ed25519, or an RSA key of 2048 bits or more"


class BadCertificate(ValueError):
    """The certificate file cannot be used; the message goes on after "it"."""


class BadKey(ValueError):
    """The key file cannot be used; the message goes on after "it"."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """``algorithm`` is C2PA's name of it; ``chain`` and ``key`` are PEM, the signer's own first."""

    algorithm: str
    chain: bytes
    key: bytes = field(repr=False)
    expires: datetime


def read_credentials(certificate: Path, key: Path) -> Credentials:
    """Read both files.

    Raises:
        BadCertificate: it cannot be read, is not valid now, or is not one for signing pictures.
        BadKey: it cannot be read, is encrypted, of an unsupported kind, or not the certificate's.
    """
    chain = _read_chain(certificate)
    private = _read_key(key)
    algorithm = _algorithm(private)
    _check_match(chain, private.public_key())
    _check_profile(chain[0])
    for each in chain:
        _check_dates(each)
    return Credentials(
        algorithm,
        b"".join(each.public_bytes(Encoding.PEM) for each in chain),
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        min(each.not_valid_after_utc for each in chain),
    )


def _read_chain(path: Path) -> list[x509.Certificate]:
    try:
        content = path.read_bytes()
        chain = x509.load_pem_x509_certificates(content)
    except OSError as error:
        raise BadCertificate(f"cannot be read ({error.strerror})") from None
    except ValueError:
        raise BadCertificate("is not a certificate in PEM") from None
    if len(chain) < content.count(PEM_BEGIN):  # an incomplete one is passed over
        raise BadCertificate("is cut off: its last certificate is not complete")
    return chain


def _read_key(path: Path) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise BadKey(f"cannot be read ({error.strerror})") from None
    except TypeError:
        raise BadKey("is encrypted; it should be in PEM without a password") from None
    except UnsupportedAlgorithm:
        raise BadKey(f"is not {KEYS}") from None
    except ValueError:
        raise BadKey("is not a private key in PEM") from None


def _algorithm(key: PrivateKeyTypes) -> str:
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in CURVES:
        return CURVES[key.curve.name]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= LEAST_RSA_BITS:
        return "ps256"
    raise BadKey(f"is not {KEYS}")


def _check_match(chain: list[x509.Certificate], key: PublicKeyTypes) -> None:
    certified = [_spki(each.public_key()) for each in chain]
    if _spki(key) not in certified:
        raise BadKey("is not the key of the certificate")
    if _spki(key) != certified[0]:
        raise BadCertificate("does not begin with the certificate of the key")


def _spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _check_profile(certificate: x509.Certificate) -> None:
    try:
        constraints, usage, purposes = (
            _extension(certificate, kind)
            for kind in (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage)
        )
    except ValueError:
        raise BadCertificate("has extensions that cannot be read") from None
    if isinstance(constraints, x509.BasicConstraints) and constraints.ca:
        raise BadCertificate("begins with the certificate of an authority, not of a signer")
    if not isinstance(usage, x509.KeyUsage) or not usage.digital_signature:
        raise BadCertificate("is not for digital signatures (its key usage)")
    named = purposes if isinstance(purposes, x509.ExtendedKeyUsage) else ()
    if not PURPOSES.keys() & {each.dotted_string for each in named}:
        wanted = ", ".join(PURPOSES.values())
        raise BadCertificate(f"is not for any of {wanted} (its extended key usage)")


def _extension(
    certificate: x509.Certificate, kind: type[x509.ExtensionType]
) -> x509.ExtensionType | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _check_dates(certificate: x509.Certificate) -> None:
    now = datetime.now(UTC)
    name = certificate.subject.rfc4514_string()
    if certificate.not_valid_after_utc < now:
        raise BadCertificate(f"expired on {certificate.not_valid_after_utc:%Y-%m-%d} ({name})")
    if certificate.not_valid_before_utc > now:
        begins = certificate.not_valid_before_utc
        raise BadCertificate(f"is not valid before {begins:%Y-%m-%d %H:%M} UTC ({name})")
