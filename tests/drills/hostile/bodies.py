"""Bodies: JSON and pictures that are none, too much, or beyond every range."""

from __future__ import annotations

import struct
import zlib

from tests.drills.hostile.case import Case, case, post

HUGE = b"9" * 5000
NUMBERS = (b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400", HUGE, b"-" + HUGE, b"1." + HUGE)
FIELDS = (
    b"cfg_scale",
    b"seed",
    b"num_sampling_steps",
    b"num_images",
    b"timeout_s",
    b"preview_every",
)
OUT_OF_RANGE = [(field, number) for field in FIELDS for number in NUMBERS]


def ask(field: bytes, value: bytes) -> bytes:
    return b'{"class_label": 1, "num_sampling_steps_": 0, "%s": %s}' % (field, value)


def prompt(value: bytes) -> bytes:
    return b'{"prompt": %s}' % value


def png(*parts: tuple[bytes, bytes]) -> bytes:
    packed = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + packed


HEADER = (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
VAST = (b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0))
BOMB = zlib.compress(bytes(2**24), 9)

JSON: list[Case] = [
    *(
        case(f"{field.decode()} is {number[:9].decode()}", 422, post(ask(field, number)))
        for field, number in OUT_OF_RANGE
        if not number.startswith(b"1.") or field in FIELDS[1:4]
    ),
    *(
        case(f"{name}", 422, post(body))
        for name, body in {
            "an empty body": b"",
            "null": b"null",
            "a number": b"1e400",
            "a list": b"[]",
            "half an object": b'{"class_label": ',
            "more than an object": b'{"class_label": 1}}',
            "two objects": b'{"class_label": 1}{"class_label": 1}',
            "a name twice": b'{"class_label": 1, "class_label": 2}',
            "a lone surrogate": b'{"class_label": "\\ud800"}',
            "a lone surrogate as a name": b'{"\\udfff": 1}',
            "a surrogate in UTF-8": b'{"class_label": "\xed\xa0\x80"}',
            "bytes beyond UTF-8": b'{"class_label": "\xff\xfe"}',
            "a NUL": b'{"class_label": "\0"}',
            "an escaped NUL and more": b'{"class_label": "\\u0000' + b"\\u0000" * 300 + b'"}',
            "UTF-16": '{"class_label": 1}'.encode("utf-16"),
            "UTF-32": '{"class_label": 1}'.encode("utf-32"),
            "nesting of lists": b"[" * 60_000,
            "nesting of objects": b'{"a":' * 12_000,
            "nesting in a field": b'{"class_label": ' + b"[" * 900 + b"]" * 900 + b"}",
            "ten thousand unknown fields": b"{%s}" % b",".join(b'"%x":1' % i for i in range(6_000)),
            "a name of 60,000 characters": b'{"' + b"n" * 60_000 + b'": 1}',
            "a class of 60,000 characters": b'{"class_label": "' + b"n" * 60_000 + b'"}',
            "a class of no type": b'{"class_label": {"a": [true, null]}}',
            "an interval of numbers": b'{"class_label": 1, "guidance_interval": [%s]}'
            % b",".join([HUGE] * 10),
            "an interval of NaN": b'{"class_label": 1, "guidance_interval": [NaN, 1e400]}',
            "a form": b"class_label=1&seed=2",
            "XML": b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        }.items()
    ),
    case("a class that does not exist", 404, post(b'{"class_label": "' + b"q" * 200 + b'"}')),
    case(
        "the longest of everything",
        504,
        post(
            b'{"class_label": 1, "num_images": 16, "num_sampling_steps": 1000, "timeout_s": 1e-300}'
        ),
    ),
]

OPENAI: list[Case] = [
    *(
        case(f"a prompt: {name}", status, post(prompt(value), path=b"/v1/images/generations"))
        for name, status, value in (
            ("NaN", 422, b"NaN"),
            ("a huge number", 422, HUGE),
            ("a lone surrogate", 404, b'"\\ud800"'),
            ("nesting", 422, b"[" * 900 + b"]" * 900),
            ("60,000 characters", 404, b'"' + b"n" * 60_000 + b'"'),
            ("a class that does not exist", 404, b'"qqqqqqqq"'),
        )
    ),
]

PICTURES: list[Case] = [
    case(f"a picture: {name}", status, post(body, path=b"/verify"))
    for name, status, body in (
        ("none", 422, b""),
        ("a signature", 422, b"\x89PNG\r\n\x1a\n"),
        ("a header alone", 422, png(HEADER)),
        ("a vast one", 422, png(VAST, (b"IDAT", BOMB), (b"IEND", b""))),
        ("zeros unpacked", 422, png(HEADER, (b"zTXt", b"dit\0\0" + BOMB), (b"IEND", b""))),
        ("text unpacked", 422, png(HEADER, (b"iTXt", b"dit\0\1\0\0\0" + BOMB), (b"IEND", b""))),
        ("a chunk of 4 GB", 422, b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffIHDR"),
        ("numbers of 5,000 digits", 422, png(HEADER, (b"tEXt", b'dit\0{"seed": %s}' % HUGE))),
        ("nested metadata", 422, png(HEADER, (b"tEXt", b"dit\0" + b"[" * 60_000))),
        ("a WebP that lies", 422, b"RIFF\xff\xff\xff\xffWEBPVP8X" + bytes(100)),
        ("a JPEG without an end", 422, b"\xff\xd8" + b"\xff\xe1\xff\xff" + b"Exif\0\0" * 9000),
        ("half a megabyte of zeros", 422, bytes(500_000)),
        ("two megabytes", 413, bytes(2_000_000)),
    )
]
