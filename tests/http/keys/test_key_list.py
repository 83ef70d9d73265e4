"""Key list: one line a key, strict, and errors that repeat nothing of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from service.http.keys import __main__ as new_key
from service.http.keys.api_key import ApiKey, digest_of, find_key
from service.http.keys.key_file import read_key_file
from service.http.keys.key_list import BadKeyList, parse_keys
from service.scheduling.jobs import ClientLimits

KEY = "abcdefghij0123456789"
HEX = digest_of(KEY).hex()


def test_a_list_has_keys_or_their_digests_and_limits() -> None:
    lines = [
        "# name: key, then limits",
        "",
        f"alice: sha256:{HEX}",
        f"  batch-2.b:{KEY}+/~.=   max_images=4\trequests_per_minute=60 max_row_steps=20000  ",
        f"upper: sha256:{digest_of('x').hex().upper()}",
    ]
    assert parse_keys(lines) == (
        ApiKey("alice", digest_of(KEY)),
        ApiKey("batch-2.b", digest_of(f"{KEY}+/~.="), 60, ClientLimits(20000, 4)),
        ApiKey("upper", digest_of("x")),
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"{KEY}", "line 2: it should be NAME: KEY, then limits"),
        (f": {KEY}", "line 2: a name has 1 to 64 letters"),
        (f"-a: {KEY}", "line 2: a name has 1 to 64 letters"),
        (f"a b: {KEY}", "line 2: a name has 1 to 64 letters"),
        (f"{'a' * 65}: {KEY}", "line 2: a name has 1 to 64 letters"),
        ("bob:", "line 2: the key is missing"),
        ("bob:  ", "line 2: the key is missing"),
        (f"bob: {KEY[1:]}", "line 2: the key has 19 characters; it should have 20 to 512"),
        (f"bob: {'a' * 513}", "line 2: the key has 513 characters; it should have 20 to 512"),
        (f"bob: {KEY},{KEY}", "line 2: a key has letters, digits and -._~+/ alone"),
        (f'bob: "{KEY}"', "line 2: a key has letters, digits and -._~+/ alone"),
        (f"bob: {KEY}ä", "line 2: a key has letters, digits and -._~+/ alone"),
        (f"bob: sha256:{HEX[1:]}", "line 2: after sha256: there should be 64 hexadecimal digits"),
        (f"bob: sha256:{HEX}0", "line 2: after sha256: there should be 64 hexadecimal digits"),
        (f"bob: {KEY}x # note", "line 2: after the key there may be requests_per_minute=N"),
        (f"bob: {KEY}x rate=1", "line 2: after the key there may be requests_per_minute=N"),
        (f"bob: {KEY}x max_images", "line 2: max_images should be an integer from 1"),
        (f"bob: {KEY}x max_images=0", "line 2: max_images should be an integer from 1"),
        (f"bob: {KEY}x max_images=1.5", "line 2: max_images should be an integer from 1"),
        (f"bob: {KEY}x max_images=-1", "line 2: max_images should be an integer from 1"),
        (f"bob: {KEY}x max_images=1 max_images=2", "line 2: max_images is given twice"),
        (f"alice: {KEY}x", "line 2: its name is that of line 1"),
        (f"bob: {KEY}", "line 2: its key is that of line 1"),
        (f"bob: sha256:{HEX}", "line 2: its key is that of line 1"),
    ],
)
def test_what_is_wrong_is_said_with_its_line_and_without_the_key(line: str, reason: str) -> None:
    with pytest.raises(BadKeyList) as caught:
        parse_keys([f"alice: {KEY}", line])
    said = str(caught.value)
    assert said.startswith(reason)
    assert KEY[1:] not in said
    assert HEX[1:] not in said


@pytest.mark.parametrize("lines", [[], [""], ["# nothing"], ["  "]])
def test_a_list_without_a_key_is_refused(lines: list[str]) -> None:
    with pytest.raises(BadKeyList, match="it has no key"):
        parse_keys(lines)


def test_files_of_other_systems_are_read(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(f"\ufeffalice: {KEY}\r\n# für später\r\n".encode())
    assert read_key_file(file) == (ApiKey("alice", digest_of(KEY)),)


def test_a_file_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    large, text = tmp_path / "large", tmp_path / "text"
    large.write_bytes(b"#" * (1 << 20) + b"#")
    text.write_bytes(b"alice: \xff")
    for path, reason in (
        (tmp_path / "nothing", "it cannot be read: No such file or directory"),
        (tmp_path, "it is not a file"),
        (Path("/dev/zero"), "it is not a file"),
        (large, "it is larger than 1048576 bytes"),
        (text, "it is not text in UTF-8"),
    ):
        with pytest.raises(BadKeyList, match=re.escape(reason)):
            read_key_file(path)


def test_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr("service.http.keys.api_key.hmac.compare_digest", compare)
    keys = parse_keys([f"key{number}: {KEY}{number}" for number in range(5)])
    for presented, name in ((f"{KEY}0", "key0"), (f"{KEY}4", "key4"), ("wrong", None)):
        compared.clear()
        found = find_key(keys, presented.encode())
        assert (found and found.name) == name
        assert compared == [(key.digest, digest_of(presented)) for key in keys]


def test_a_new_key_and_its_line_fit_each_other(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service.http.keys", "alice"]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    key, (entry,) = made.stderr.strip(), parse_keys(made.stdout.splitlines())
    assert (entry.name, entry.digest) == ("alice", digest_of(key))
    assert key.startswith("ditkey_")
    assert len(key) == 50
    assert key not in made.stdout
    assert new_key.new_key() != new_key.new_key()


def test_a_key_is_not_made_for_a_name_that_a_file_cannot_have(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        new_key.main(["two words"])
    printed = capsys.readouterr()
    assert "a name has 1 to 64 letters" in printed.err
    assert not printed.out
