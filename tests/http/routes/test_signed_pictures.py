"""Signed pictures: what a C2PA reader and /verify say about them, and when signing fails."""

from __future__ import annotations

import base64
import io
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from c2pa import C2paError
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from model.runner.runner import ModelRunner
from service import __version__
from service.errors import SigningFailed
from service.images.encoding import CONTENT_TYPES, OutputFormat, encode
from service.images.metadata.manifest import without_manifest
from service.images.signing.c2pa_signer import C2paSigner
from service.images.signing.credentials import read_credentials
from service.launch import log_signing
from tests.images.test_encoding import PARAMETERS, pixels
from tests.support.certificates import DAY, Authority, Files, read_report, write_files
from tests.support.requests import PICTURE, generate, images_of, read_events
from tests.support.services import LIMITS, Running, load_small_runner, running_service
from tests.support.verify import chunks, png_of, verdict

FORMATS: list[OutputFormat] = ["png", "webp", "jpeg"]
GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

each_format = pytest.mark.parametrize("output_format", FORMATS)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def files(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Files:
    return write_files(tmp_path_factory.mktemp("signer"), authority)


@pytest.fixture(scope="module")
def signer(files: Files) -> C2paSigner:
    return files.signer()


@pytest.fixture(scope="module")
def signing(pipeline_folder: Path, signer: C2paSigner) -> Iterator[Running]:
    """A service in reproducible mode that signs."""

    def load() -> ModelRunner:
        return load_small_runner(pipeline_folder, max_rows=8, reproducible=True)

    limits = replace(LIMITS, reproducible=True)
    with running_service(load, limits=limits, signer=signer) as running:
        yield running


def made(service: Running, output_format: OutputFormat) -> bytes:
    answer = generate(service, PICTURE | {"output_format": output_format})
    assert answer.status_code == 200, answer.text
    return answer.content


@each_format
def test_a_c2pa_reader_trusts_a_signed_picture(
    signing: Running, authority: Authority, output_format: OutputFormat
) -> None:
    file = made(signing, output_format)
    report = read_report(file, CONTENT_TYPES[output_format], authority)
    assert (report.state, report.failures) == ("Trusted", [])
    (generator,) = report.manifest["claim_generator_info"]
    assert (generator["name"], generator["version"]) == ("dit-service", __version__)
    (actions,) = report.manifest["assertions"]
    (created,) = actions["data"]["actions"]
    assert created == {"action": "c2pa.created", "digitalSourceType": GENERATED}
    assert report.manifest["signature_info"]["common_name"] == "Test signer"
    assert "time" not in report.manifest["signature_info"]
    assert "thumbnail" not in report.manifest


@each_format
def test_another_authority_is_not_trusted(signing: Running, output_format: OutputFormat) -> None:
    report = read_report(made(signing, output_format), CONTENT_TYPES[output_format], Authority())
    assert (report.state, report.failures) == ("Valid", ["signingCredential.untrusted"])


def with_other_pixels(file: bytes) -> bytes:
    other = np.full((8, 8, 3), 128, dtype=np.uint8)
    data = next(
        content for kind, content in chunks(encode(other, "png", PARAMETERS)) if kind == b"IDAT"
    )
    return png_of([(kind, data if kind == b"IDAT" else each) for kind, each in chunks(file)])


def with_another_seed(file: bytes) -> bytes:
    return png_of([(kind, each.replace(b'"seed": 1', b'"seed": 2')) for kind, each in chunks(file)])


def with_another_origin(file: bytes) -> bytes:
    words = b"trainedAlgorithmicMedia", b"digitalCapture         "
    return png_of(
        [(kind, each.replace(*words) if kind == b"iTXt" else each) for kind, each in chunks(file)]
    )


@pytest.mark.parametrize("change", [with_other_pixels, with_another_seed, with_another_origin])
def test_a_reader_detects_a_change_to_pixels_or_metadata(
    signing: Running, authority: Authority, change: Callable[[bytes], bytes]
) -> None:
    file = made(signing, "png")
    changed = change(file)
    assert changed != file
    report = read_report(changed, "image/png", authority)
    assert (report.state, report.failures) == ("Invalid", ["assertion.dataHash.mismatch"])


@pytest.mark.parametrize("output_format", ["webp", "jpeg"])
def test_a_reader_detects_a_change_to_a_lossy_picture(
    signing: Running, authority: Authority, output_format: OutputFormat
) -> None:
    file = made(signing, output_format)
    for old, new in ((b'"seed": 1', b'"seed": 2'), (b"trainedAlgorithmic", b"digitallyPainted!!")):
        report = read_report(file.replace(old, new), CONTENT_TYPES[output_format], authority)
        assert report.state == "Invalid"


def test_a_manifest_of_another_picture_does_not_hold(
    signing: Running, authority: Authority
) -> None:
    file = made(signing, "png")
    other = generate(signing, PICTURE | {"seed": 2}).content
    moved = png_of([chunks(other)[0], chunks(file)[1], *chunks(other)[2:]])
    assert read_report(moved, "image/png", authority).state == "Invalid"


@each_format
def test_signing_adds_a_manifest_and_changes_nothing_else(
    signing: Running, exact: Running, output_format: OutputFormat
) -> None:
    first, second = made(signing, output_format), made(signing, output_format)
    plain = made(exact, output_format)
    assert first != second
    assert without_manifest(first) == without_manifest(second) == plain
    assert 2000 < len(first) - len(plain) < 4000


@each_format
def test_verify_is_blind_to_the_signature(
    signing: Running, exact: Running, output_format: OutputFormat
) -> None:
    signed, plain = made(signing, output_format), made(exact, output_format)
    for service in (signing, exact):
        for file in (signed, plain):
            result = verdict(service, file)
            assert (result["verified"], result["bytes_equal"]) == (True, True)
            assert (result["max_pixel_difference"], result["reason"]) == (0, None)


def test_verify_does_not_look_at_the_signature_but_at_the_rest(
    signing: Running, authority: Authority
) -> None:
    file = made(signing, "png")
    forged = [(kind, each.replace(b"Test signer", b"Best signer")) for kind, each in chunks(file)]
    assert verdict(signing, png_of(forged))["verified"] is True
    assert read_report(png_of(forged), "image/png", authority).state == "Invalid"
    assert verdict(signing, with_other_pixels(file))["verified"] is False
    assert verdict(signing, with_another_origin(file))["verified"] is False


def test_a_manifest_elsewhere_or_twice_is_never_verified(signing: Running) -> None:
    header, manifest, *rest = chunks(made(signing, "png"))
    assert manifest[0] == b"caBX"
    for parts in (
        [header, manifest, manifest, *rest],
        [header, *rest[:-1], manifest, rest[-1]],
        [header, (b"caBX", manifest[1] + b"more"), *rest],
        [header, (b"caBX", manifest[1][:-1]), *rest],
    ):
        result = verdict(signing, png_of(parts))
        assert (result["verified"], result["bytes_equal"]) == (False, False)
        assert "it has a chunk caBX" in str(result["reason"])


@pytest.mark.parametrize("output_format", ["webp", "jpeg"])
def test_a_second_manifest_in_a_lossy_file_is_never_verified(
    signing: Running, output_format: OutputFormat
) -> None:
    file, plain = made(signing, output_format), without_manifest(made(signing, output_format))
    if output_format == "webp":
        chunk = file[len(plain) :]
        size = int.from_bytes(file[4:8], "little") + len(chunk)
        twice = file[:4] + size.to_bytes(4, "little") + file[8:] + chunk
    else:
        place = file.index(b"\xff\xeb")
        segment = file[place : place + len(file) - len(plain)]
        twice = file[:place] + segment + file[place:]
    assert without_manifest(without_manifest(twice)) == plain
    assert verdict(signing, twice)["verified"] is False


def test_a_cut_off_signed_file_is_refused(signing: Running) -> None:
    for output_format in FORMATS:
        file = made(signing, output_format)
        for length in (40, 50, 500, len(file) - 1):
            answer = signing.client.post("/verify", content=file[:length])
            assert answer.status_code in (200, 422), answer.text
            assert answer.status_code == 422 or answer.json()["verified"] is False


def test_every_picture_of_every_form_is_signed_and_previews_are_not(
    signing: Running, authority: Authority
) -> None:
    body = PICTURE | {"num_images": 2}
    signed = images_of(generate(signing, body, "application/json"))
    archive = zipfile.ZipFile(io.BytesIO(generate(signing, body, "application/zip").content))
    signed += [archive.read(each) for each in archive.namelist()]
    answer = generate(signing, body | {"preview_every": 1}, "text/event-stream")
    pictures: dict[str, list[bytes]] = {"preview": [], "image": []}
    for event in read_events(answer.iter_lines()):
        if event.name in pictures:
            pictures[event.name].append(base64.b64decode(str(event.data["b64_json"])))
    signed += pictures["image"]
    assert len(signed) == 6
    assert all(read_report(each, "image/png", authority).state == "Trusted" for each in signed)
    assert pictures["preview"]
    for preview in pictures["preview"]:
        assert b"trainedAlgorithmicMedia" in preview
        with pytest.raises(C2paError.ManifestNotFound):
            read_report(preview, "image/png", authority)


@pytest.mark.parametrize("accept", ["image/png", "application/json", "text/event-stream"])
def test_the_etag_of_a_signed_answer_is_weak(signing: Running, exact: Running, accept: str) -> None:
    weak = generate(signing, PICTURE, accept).headers["ETag"]
    assert weak.startswith('W/"')
    assert generate(signing, PICTURE, accept).headers["ETag"] == weak
    unsigned = generate(exact, PICTURE, accept).headers["ETag"]
    assert unsigned.startswith('"') == (accept == "image/png")  # the other forms hold timings
    assert weak.removeprefix("W/") != unsigned.removeprefix("W/")


def test_a_client_that_has_a_signed_picture_is_not_sent_another(signing: Running) -> None:
    tag = generate(signing, PICTURE).headers["ETag"]
    again = signing.client.post("/generate", json=PICTURE, headers={"If-None-Match": tag})
    assert (again.status_code, again.headers["ETag"]) == (304, tag)


def test_openai_s_clients_get_signed_pictures(signing: Running, authority: Authority) -> None:
    answer = signing.client.post("/v1/images/generations", json={"prompt": "fig", "n": 2})
    assert answer.status_code == 200, answer.text
    for each in answer.json()["data"]:
        file = base64.b64decode(each["b64_json"])
        assert read_report(file, "image/png", authority).state == "Trusted"


def test_signing_is_timed(signing: Running) -> None:
    before = signing.metric("dit_sign_duration_seconds_count", format="jpeg")
    made(signing, "jpeg")
    assert signing.metric("dit_sign_duration_seconds_count", format="jpeg") == before + 1


def test_the_metrics_say_until_when_pictures_are_signed(
    signing: Running, exact: Running, signer: C2paSigner
) -> None:
    assert signing.metric("dit_signing_expiry_timestamp_seconds") == signer.expires.timestamp()
    assert exact.metric("dit_signing_expiry_timestamp_seconds") == 0


def test_threads_sign_at_once(signer: C2paSigner, authority: Authority) -> None:
    plain = encode(pixels(), "png", PARAMETERS)
    with ThreadPoolExecutor(8) as pool:
        signed = list(pool.map(lambda _: signer.sign(plain, "image/png"), range(64)))
    assert len(set(signed)) == len(signed)
    for file in signed:
        assert read_report(file, "image/png", authority).state == "Trusted"


def test_an_expired_certificate_signs_nothing(files: Files) -> None:
    now = datetime.now(UTC)
    signer = C2paSigner(read_credentials(files.certificate, files.key), clock=lambda: now)
    plain = encode(pixels(), "png", PARAMETERS)
    assert signer.sign(plain, "image/png") != plain
    now += 366 * DAY
    with pytest.raises(SigningFailed, match=r"^the certificate expired on 20"):
        signer.sign(plain, "image/png")


class BrokenSigner:
    """Signs every second picture."""

    def __init__(self, signer: C2paSigner) -> None:
        self._signer = signer
        self._calls = 0
        self.expires = signer.expires

    def sign(self, file: bytes, content_type: str) -> bytes:
        assert threading.current_thread().name.startswith("encode")
        self._calls += 1
        if self._calls % 2:
            raise SigningFailed("the certificate expired on 2024-01-02 03:04 UTC")
        return self._signer.sign(file, content_type)


def test_a_signing_failure_costs_its_request_alone(
    pipeline_folder: Path, signer: C2paSigner
) -> None:
    broken = BrokenSigner(signer)
    with running_service(lambda: load_small_runner(pipeline_folder), signer=broken) as running:
        with capture_logs(processors=[merge_contextvars]) as lines:
            failed = generate(running, PICTURE)
        assert failed.status_code == 500
        (line,) = [each for each in lines if each["event"] == "signing failed"]
        assert line["request_id"] == failed.headers["X-Request-Id"]
        problem = failed.json()
        assert problem["type"] == "urn:dit-service:signing-failed"
        assert problem["title"] == "Signing failed"
        assert problem["detail"] == "the certificate expired on 2024-01-02 03:04 UTC"
        assert generate(running, PICTURE).status_code == 200
        events = generate(running, PICTURE, "text/event-stream")
        *_, last = read_events(events.iter_lines())
        assert (last.name, last.data["title"]) == ("error", "Signing failed")
        assert verdict(running, generate(running, PICTURE).content)["verified"] is True
        body = {"prompt": "fig"}
        error = running.client.post("/v1/images/generations", json=body).json()["error"]
        assert error["message"] == problem["detail"]
        assert running.metric("dit_signing_failures_total") == 3
        labels = {"route": "/generate", "outcome": "failed"}
        assert running.metric("dit_requests_total", **labels) == 2
        assert running.engine.ready
        assert running.queue_row_steps == 0


def test_the_library_s_refusal_is_a_signing_failure(signer: C2paSigner) -> None:
    with pytest.raises(SigningFailed, match=r"^the picture could not be signed: "):
        signer.sign(b"not a picture", "image/png")


@pytest.mark.parametrize(("days", "level"), [(31, "info"), (29, "warning"), (-1, "warning")])
def test_a_certificate_that_expires_soon_is_a_warning(days: int, level: str) -> None:
    with capture_logs() as lines:
        log_signing(datetime.now(UTC) + timedelta(days=days, hours=1))
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("pictures are signed", level)
