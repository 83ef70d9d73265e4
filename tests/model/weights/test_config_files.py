"""JSON files: every one is read alike, and every fault names the file."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from model.weights import config_files
from model.weights.config_files import read_json
from model.weights.errors import CheckpointError


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le"])
def test_a_byte_order_mark_and_utf_16_are_read(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_text('["Äpfel", "柿"]', encoding=encoding)
    assert read_json(path) == ["Äpfel", "柿"]


def test_text_is_normalised(tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_text(
        '{"A\\u0308pfel": ["Cre\u0300me", {"x": "e\\u0301"}], "n": 3}', encoding="utf-8"
    )
    assert read_json(path) == {"Äpfel": ["Crème", {"x": "é"}], "n": 3}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"a": 1, "a": 1}', "'a'"),
        ('[{"b": {"a": 1, "c": 2, "a": 3}}]', "'a'"),
        ('{"Ä": 1, "A\\u0308": 2}', "'Ä'"),
    ],
)
def test_a_key_given_twice_is_refused_by_name(text: str, key: str, tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"names.json: has the key {key} twice"):
        read_json(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf",
        b"{",
        b"\xff",
        b"[1,]",
        b"[" * 200_000,
        b'["\xe9"]',
        b"9" * 5000,
        b"a\x00",
    ],
)
def test_what_is_not_json_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"names\.json: is not valid JSON"):
        read_json(path)


def test_deep_nesting_ends_in_content_or_one_line(tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_text("[" * 50 + "]" * 50)
    assert isinstance(read_json(path), list)
    for depth in (500, 900, 980, 2000):  # around the depth at which Python's stack ends
        path.write_text("[" * depth + "]" * depth)
        with suppress(CheckpointError):
            read_json(path)


def test_a_file_larger_than_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_files, "MAX_BYTES", 3 << 20)
    path = tmp_path / "names.json"
    path.write_text(" " * ((3 << 20) - 2) + "[]")
    assert read_json(path) == []
    path.write_text(" " * (3 << 20) + "[]")
    with pytest.raises(CheckpointError, match=r"names\.json: is larger than 3 MiB"):
        read_json(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_json(tmp_path)
