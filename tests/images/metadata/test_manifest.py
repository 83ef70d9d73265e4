"""Manifests: what counts as one, and that nothing else is taken away."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from service.images.encoding import OutputFormat, encode
from service.images.metadata.manifest import LONGEST_MANIFEST, without_manifest
from tests.images.test_encoding import PARAMETERS, pixels
from tests.support.verify import SIGNATURE, chunk

C2PA = bytes.fromhex("6332706100110010800000aa00389b71")
FORMATS: list[OutputFormat] = ["png", "webp", "jpeg"]
each_format = pytest.mark.parametrize("output_format", FORMATS)


def box(length: int, uuid: bytes = C2PA) -> bytes:
    """A JUMBF box as a C2PA manifest store begins, filled up to a length."""
    described = struct.pack(">I4s", 30, b"jumd") + uuid + b"\3c2pa\0"
    return (struct.pack(">I4s", length, b"jumb") + described).ljust(length, b"x")


def webp_with(file: bytes, content: bytes) -> bytes:
    added = struct.pack("<4sI", b"C2PA", len(content)) + content + bytes(len(content) % 2)
    size = int.from_bytes(file[4:8], "little") + len(added)
    return file[:4] + struct.pack("<I", size) + file[8:] + added


def jpeg_with(file: bytes, content: bytes, header: bytes = b"JP\2\x11\0\0\0\1") -> bytes:
    segment = b"\xff\xeb" + struct.pack(">H", 2 + len(header) + len(content)) + header + content
    return file[:20] + segment + file[20:]


def with_manifest(file: bytes, content: bytes) -> bytes:
    """The file with the content where a manifest belongs."""
    if file.startswith(SIGNATURE):
        return file[:33] + chunk(b"caBX", content) + file[33:]
    return webp_with(file, content) if file.startswith(b"RIFF") else jpeg_with(file, content)


def plain(output_format: OutputFormat) -> bytes:
    return encode(pixels(), output_format, PARAMETERS)


@each_format
@pytest.mark.parametrize("length", [200, 201, LONGEST_MANIFEST])
def test_a_manifest_is_taken_away_and_nothing_else(
    output_format: OutputFormat, length: int
) -> None:
    file = plain(output_format)
    assert without_manifest(with_manifest(file, box(length))) == file
    assert without_manifest(file) == file


@each_format
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a manifest",
        box(LONGEST_MANIFEST + 1),
        box(200) + b"x",
        box(200)[:-1],
        box(200, uuid=bytes(16)),
        box(200).replace(b"jumb", b"ftyp"),
        box(200).replace(b"jumd", b"json"),
    ],
    ids=["empty", "text", "too long", "too much", "too little", "other", "no box", "undescribed"],
)
def test_what_is_not_a_manifest_stays(output_format: OutputFormat, content: bytes) -> None:
    file = with_manifest(plain(output_format), content)
    assert without_manifest(file) == file


@each_format
@pytest.mark.parametrize("length", [200, 201])
def test_a_file_cut_off_in_its_manifest_stays(output_format: OutputFormat, length: int) -> None:
    whole = with_manifest(plain(output_format), box(length))
    begins = whole.index(box(length))
    ends = begins + length + {"png": 4, "webp": length % 2, "jpeg": 0}[output_format]
    for cut in range(begins, ends):
        assert without_manifest(whole[:cut]) == whole[:cut]
    assert without_manifest(whole[:ends]) != whole[:ends]


def test_only_the_first_of_two_is_taken_away() -> None:
    for output_format in FORMATS:
        once = with_manifest(plain(output_format), box(200))
        assert without_manifest(with_manifest(once, box(300))) in (
            once,
            with_manifest(plain(output_format), box(300)),
        )


def test_a_png_s_manifest_with_a_wrong_checksum_stays() -> None:
    file = bytearray(with_manifest(plain("png"), box(200)))
    file[100] ^= 1
    assert without_manifest(bytes(file)) == file


@pytest.mark.parametrize(
    "header", [b"HD\2\x11\0\0\0\1", b"JP\2\x11\0\0\0\2", b"JP\2\x11\0\0\1\1", b""]
)
def test_another_segment_of_a_jpeg_stays(header: bytes) -> None:
    file = jpeg_with(plain("jpeg"), box(200), header)
    assert without_manifest(file) == file


@pytest.mark.parametrize(
    "damage", [lambda f: f[:-1], lambda f: b"", lambda f: f[:33], lambda f: f[:40]]
)
@each_format
def test_no_file_is_too_broken_to_look_at(
    output_format: OutputFormat, damage: Callable[[bytes], bytes]
) -> None:
    file = damage(plain(output_format))
    assert without_manifest(file) == file
