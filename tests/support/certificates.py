"""Certificates of an authority made for the tests, and what a C2PA reader says under it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from c2pa import Context, Reader
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from service.images.signing.c2pa_signer import C2paSigner
from service.images.signing.credentials import read_credentials

EMAIL = ExtendedKeyUsageOID.EMAIL_PROTECTION
C2PA = x509.ObjectIdentifier("1.3.6.1.4.1.62558.2.1")
DAY = timedelta(days=1)


def name(common: str) -> x509.Name:
    parts = {NameOID.ORGANIZATION_NAME: "Test", NameOID.COMMON_NAME: common}
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts.items()])


def key_usage(*, signs: bool, certifies: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certifies,
        crl_sign=certifies,
        encipher_only=False,
        decipher_only=False,
    )


class Authority:
    """Certifies keys; its own certificate is what a reader is told to trust."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = name("Test authority")
        self.certificate = self.certify(self._key, self._name, ca=True, purposes=())

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def certify(
        self,
        key: CertificateIssuerPrivateKeyTypes,
        subject: x509.Name,
        *,
        ca: bool = False,
        signs: bool = True,
        purposes: Sequence[x509.ObjectIdentifier] = (EMAIL,),
        begins: datetime | None = None,
        lasts: timedelta = 365 * DAY,
    ) -> x509.Certificate:
        """A certificate as the C2PA specification's profile has it, or with one fault."""
        begins = begins or datetime.now(UTC) - DAY
        theirs, ours = key.public_key(), self._key.public_key()
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(theirs)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(begins + lasts)
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(key_usage(signs=signs, certifies=ca), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(theirs), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ours), critical=False)
        )
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        return builder.sign(self._key, SHA256())


@dataclass(frozen=True, slots=True)
class Files:
    """What an operator has: the paths of the chain and of its key."""

    certificate: Path
    key: Path

    def signer(self) -> C2paSigner:
        return C2paSigner(read_credentials(self.certificate, self.key))


def write_chain(path: Path, *certificates: x509.Certificate) -> Path:
    path.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in certificates))
    return path


def write_key(
    path: Path,
    key: CertificateIssuerPrivateKeyTypes,
    form: PrivateFormat = PrivateFormat.PKCS8,
    encryption: KeySerializationEncryption | None = None,
) -> Path:
    path.write_bytes(key.private_bytes(Encoding.PEM, form, encryption or NoEncryption()))
    return path


def write_files(
    folder: Path,
    authority: Authority,
    key: CertificateIssuerPrivateKeyTypes | None = None,
    **certified: object,
) -> Files:
    """The files of a signer; ``certified`` is as for `Authority.certify`."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    own = authority.certify(key, name("Test signer"), **certified)  # type: ignore[arg-type]
    chain = write_chain(folder / "chain.pem", own, authority.certificate)
    return Files(chain, write_key(folder / "key.pem", key))


@dataclass(frozen=True, slots=True)
class Report:
    """What a C2PA reader says about a file."""

    state: str
    failures: list[str]
    manifest: dict[str, Any]


def read_report(file: bytes, content_type: str, authority: Authority) -> Report:
    """Read the manifest with a reader that trusts this authority alone.

    Raises:
        C2paError: the file has no manifest, or is broken.
    """
    trust = {"user_anchors": authority.pem.decode(), "trust_config": f"{EMAIL.dotted_string}\n"}
    settings = {"trust": trust, "verify": {"verify_trust": True, "remote_manifest_fetch": False}}
    with Reader(content_type, io.BytesIO(file), None, Context.from_dict(settings)) as reader:
        results = reader.get_validation_results()
        failures = [each["code"] for each in results["activeManifest"]["failure"]]
        return Report(reader.get_validation_state(), failures, reader.get_active_manifest())
