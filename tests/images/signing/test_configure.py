"""The settings of signing: what is wrong with them ends the start in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, PrivateFormat
from cryptography.x509 import ObjectIdentifier

from service.images.signing.configure import signer_of
from service.settings import Settings, SettingsError, read_settings
from tests.support.certificates import (
    C2PA,
    DAY,
    EMAIL,
    Authority,
    Files,
    name,
    write_chain,
    write_files,
    write_key,
)
from tests.support.processes import PROCESS_S

AUTHORITY = Authority()
SERVER = "1.3.6.1.5.5.7.3.1"


def settings_of(files: Files) -> Settings:
    return read_settings(
        ["--c2pa-certificate", str(files.certificate), "--c2pa-key", str(files.key)]
    )


def refusal(files: Files) -> str:
    with pytest.raises(SettingsError) as caught:
        signer_of(settings_of(files))
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_without_the_settings_nothing_is_signed() -> None:
    assert signer_of(read_settings([])) is None


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["P-256", "P-384", "P-521", "Ed25519"],
)
def test_keys_of_these_kinds_sign(
    tmp_path: Path, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
) -> None:
    assert signer_of(settings_of(write_files(tmp_path, AUTHORITY, key))) is not None


def test_an_rsa_key_signs(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    assert signer_of(settings_of(write_files(tmp_path, AUTHORITY, key))) is not None


def test_a_key_may_be_in_openssls_older_form(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    files = write_files(tmp_path, AUTHORITY, key)
    write_key(files.key, key, PrivateFormat.TraditionalOpenSSL)
    assert b"BEGIN EC PRIVATE KEY" in files.key.read_bytes()
    assert signer_of(settings_of(files)) is not None


def test_a_certificate_for_c2pa_alone_signs(tmp_path: Path) -> None:
    assert signer_of(settings_of(write_files(tmp_path, AUTHORITY, purposes=[C2PA]))) is not None


def test_one_setting_without_the_other_is_refused(tmp_path: Path) -> None:
    files = write_files(tmp_path, AUTHORITY)
    with pytest.raises(SettingsError) as caught:
        signer_of(read_settings(["--c2pa-certificate", str(files.certificate)]))
    assert str(caught.value) == (
        "DIT_C2PA_KEY (--c2pa-key) is not set: it should be set, as DIT_C2PA_CERTIFICATE is"
    )
    with pytest.raises(SettingsError) as caught:
        signer_of(read_settings(["--c2pa-key", str(files.key)]))
    assert str(caught.value).startswith("DIT_C2PA_CERTIFICATE (--c2pa-certificate) is not set: ")


def expired(folder: Path) -> Files:
    return write_files(folder, AUTHORITY, begins=datetime(2024, 1, 1, tzinfo=UTC), lasts=DAY)


def not_yet_valid(folder: Path) -> Files:
    return write_files(folder, AUTHORITY, begins=datetime.now(UTC) + timedelta(days=2))


def of_an_authority(folder: Path) -> Files:
    return write_files(folder, AUTHORITY, ca=True)


def of_a_web_server(folder: Path) -> Files:
    return write_files(folder, AUTHORITY, purposes=[ObjectIdentifier(SERVER)])


def without_purpose(folder: Path) -> Files:
    return write_files(folder, AUTHORITY, purposes=())


def not_for_signatures(folder: Path) -> Files:
    return write_files(folder, AUTHORITY, signs=False)


def missing(folder: Path) -> Files:
    return Files(folder / "none.pem", write_files(folder, AUTHORITY).key)


def a_folder(folder: Path) -> Files:
    return Files(folder, write_files(folder, AUTHORITY).key)


def no_certificate(folder: Path) -> Files:
    key = write_files(folder, AUTHORITY).key
    return Files(key, key)


def in_the_wrong_order(folder: Path) -> Files:
    key = ec.generate_private_key(ec.SECP256R1())
    own = AUTHORITY.certify(key, name("Test signer"))
    chain = write_chain(folder / "chain.pem", AUTHORITY.certificate, own)
    return Files(chain, write_key(folder / "key.pem", key))


def with_a_broken_second_certificate(folder: Path) -> Files:
    files = write_files(folder, AUTHORITY)
    files.certificate.write_bytes(files.certificate.read_bytes()[:-200])
    return files


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (expired, "it expired on 2024-01-02 (CN=Test signer,O=Test)"),
        (not_yet_valid, "it is not valid before 20"),
        (of_an_authority, "it begins with the certificate of an authority, not of a signer"),
        (of_a_web_server, "it is not for any of emailProtection, documentSigning, C2PA"),
        (without_purpose, "it is not for any of emailProtection, documentSigning, C2PA"),
        (not_for_signatures, "it is not for digital signatures"),
        (missing, "it cannot be read (No such file or directory)"),
        (a_folder, "it cannot be read (Is a directory)"),
        (no_certificate, "it is not a certificate in PEM"),
        (in_the_wrong_order, "it does not begin with the certificate of the key"),
        (with_a_broken_second_certificate, "it is cut off: its last certificate is not complete"),
    ],
)
def test_a_certificate_that_cannot_sign_is_refused(
    tmp_path: Path, files: Callable[[Path], Files], reason: str
) -> None:
    made = files(tmp_path)
    line = refusal(made)
    place = f"DIT_C2PA_CERTIFICATE (--c2pa-certificate) is {str(made.certificate)!r}: "
    assert line.startswith(place + reason)


def another_key(folder: Path) -> Path:
    return write_key(folder / "other.pem", ec.generate_private_key(ec.SECP256R1()))


def an_encrypted_key(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    return write_key(folder / "other.pem", key, encryption=BestAvailableEncryption(b"secret"))


def an_unusual_curve(folder: Path) -> Path:
    return write_key(folder / "other.pem", ec.generate_private_key(ec.SECP256K1()))


def a_short_rsa_key(folder: Path) -> Path:
    return write_key(folder / "other.pem", rsa.generate_private_key(65537, 1024))


def a_dsa_key(folder: Path) -> Path:
    return write_key(folder / "other.pem", dsa.generate_private_key(1024))


def a_certificate(folder: Path) -> Path:
    return folder / "chain.pem"


def no_file(folder: Path) -> Path:
    return folder / "none.pem"


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (another_key, "it is not the key of the certificate"),
        (an_encrypted_key, "it is encrypted; it should be in PEM without a password"),
        (an_unusual_curve, "it is not a P-256, P-384 or P-521, an Ed25519, or an RSA key of 2048"),
        (a_short_rsa_key, "it is not a P-256, P-384 or P-521, an Ed25519, or an RSA key of 2048"),
        (a_dsa_key, "it is not a P-256, P-384 or P-521, an Ed25519, or an RSA key of 2048"),
        (a_certificate, "it is not a private key in PEM"),
        (no_file, "it cannot be read (No such file or directory)"),
    ],
)
def test_a_key_that_cannot_sign_is_refused(
    tmp_path: Path, key: Callable[[Path], Path], reason: str
) -> None:
    certificate = write_files(tmp_path, AUTHORITY).certificate
    path = key(tmp_path)
    line = refusal(Files(certificate, path))
    assert line.startswith(f"DIT_C2PA_KEY (--c2pa-key) is {str(path)!r}: {reason}")


def test_a_chain_for_which_signatures_would_be_too_long_is_refused(tmp_path: Path) -> None:
    files = write_files(tmp_path, AUTHORITY)
    files.certificate.write_bytes(files.certificate.read_bytes() + AUTHORITY.pem * 100)
    assert "it cannot be used for signing (signatures take " in refusal(files)


def test_what_only_the_library_objects_to_is_refused_in_its_words(tmp_path: Path) -> None:
    """An unusual version or algorithm, say: here every use is allowed, which C2PA forbids."""
    every = ObjectIdentifier("2.5.29.37.0")
    files = write_files(tmp_path, AUTHORITY, purposes=[EMAIL, every])
    reason = "it cannot be used for signing (the picture could not be signed: "
    assert reason in refusal(files)


@pytest.mark.parametrize("package", ["c2pa", "cryptography"])
def test_without_the_extra_the_line_says_how_to_install_it(
    tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [each for each in sys.modules if each.startswith("service.images.signing.c")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    line = refusal(write_files(tmp_path, AUTHORITY))
    assert line.startswith("DIT_C2PA_CERTIFICATE (--c2pa-certificate) is ")
    assert line.endswith("--editable '.[c2pa]'")


def test_a_wrong_file_ends_the_start_with_exit_code_2_and_one_line(tmp_path: Path) -> None:
    files = expired(tmp_path)
    settings = {"CERTIFICATE": str(files.certificate), "KEY": str(files.key)}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DIT_")}
    ended = subprocess.run(
        [sys.executable, "-m", "service", "--log-format", "json"],
        env=clean | {f"DIT_C2PA_{name}": value for name, value in settings.items()},
        capture_output=True,
        text=True,
        timeout=PROCESS_S,
        check=False,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    said = json.loads(line)["event"]
    assert "DIT_C2PA_CERTIFICATE (--c2pa-certificate) is " in said
    assert "it expired on 2024-01-02" in said
