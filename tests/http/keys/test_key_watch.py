"""KeyWatch: a changed file is read again, a wrong one changes nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from service.http.keys.key_file import read_key_file
from service.http.keys.key_ring import KeyRing
from service.http.keys.key_watch import KeyWatch
from service.metrics import Metrics
from tests.support.keys import ALICE, BOB
from tests.support.services import wait_until

POLL_S = 0.01
NEVER_S = 3600.0
FAILED = "the API keys stay as they were"


@contextmanager
def watched(
    file: Path, poll_s: float = POLL_S
) -> Iterator[tuple[KeyRing, KeyWatch, Callable[[], bool]]]:
    """The ring of a file that is watched, and whether its last reading failed."""
    ring, metrics = KeyRing(()), Metrics()
    watch = KeyWatch(file, ring, metrics, poll_s=poll_s)

    def failing() -> bool:
        return metrics.registry.get_sample_value("dit_keys_reload_failing") == 1

    watch.start()
    wait_until(lambda: bool(ring.keys))  # it has looked once
    try:
        yield ring, watch, failing
    finally:
        watch.stop()


def replace(file: Path, text: str) -> None:
    """As an editor or mv does."""
    other = file.with_suffix(".new")
    other.write_text(text)
    other.replace(file)


def names(ring: KeyRing) -> list[str]:
    return [key.name for key in ring.keys]


def messages(logged: list[Any], event: str) -> list[dict[str, object]]:
    return [dict(each) for each in logged if each["event"] == event]


def test_a_changed_file_is_read_and_what_changed_is_logged(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"alice: {ALICE}\n")
    with capture_logs() as logged, watched(file) as (ring, _, failing):
        replace(file, f"bob: {BOB}\n")
        wait_until(lambda: names(ring) == ["bob"])
        assert ring.find(ALICE.encode()) is None
        assert not failing()
        wait_until(lambda: len(messages(logged, "API keys read")) == 2)
    line = messages(logged, "API keys read")[1]
    assert (line["added"], line["removed"], line["keys"]) == (["bob"], ["alice"], 1)


def test_a_file_written_in_place_is_noticed_too(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"alice: {ALICE}\n")
    with watched(file) as (ring, _, _):
        file.write_text(f"carol: {ALICE}\n")  # of the same size
        wait_until(lambda: names(ring) == ["carol"])


def test_a_link_that_leads_to_another_folder_is_noticed(tmp_path: Path) -> None:
    """As Kubernetes replaces a mounted secret: the file is a link into a folder that is a link."""
    for folder, text in (("1", f"alice: {ALICE}"), ("2", f"bob: {BOB}")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "keys").write_text(text)
    (tmp_path / "data").symlink_to("1")
    (tmp_path / "keys").symlink_to("data/keys")
    with watched(tmp_path / "keys") as (ring, _, _):
        (tmp_path / "new").symlink_to("2")
        (tmp_path / "new").replace(tmp_path / "data")
        wait_until(lambda: names(ring) == ["bob"])


def test_a_wrong_file_leaves_the_keys_and_is_reported_once(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"alice: {ALICE}\n")
    with capture_logs() as logged, watched(file) as (ring, _, failing):
        replace(file, f"alice: {ALICE}\nbob: short\n")
        wait_until(failing)
        time.sleep(20 * POLL_S)  # it is looked at again and again
        file.unlink()
        wait_until(lambda: len(messages(logged, FAILED)) == 2)
        assert names(ring) == ["alice"]
        assert failing()
        replace(file, f"alice: {ALICE}\nbob: {BOB}\n")
        wait_until(lambda: names(ring) == ["alice", "bob"])
        wait_until(lambda: not failing())
    wrong, gone = messages(logged, FAILED)
    assert wrong["log_level"] == "error"
    assert wrong["file"] == str(file)
    assert str(wrong["reason"]).startswith("line 2: the key has 5 characters")
    assert gone["reason"] == "it cannot be read: No such file or directory"


def test_a_file_that_cannot_be_read_for_a_while_is_read_later(tmp_path: Path) -> None:
    """Its content and its time are the same, but its rights have changed."""
    file = tmp_path / "keys"
    file.write_text(f"alice: {ALICE}\n")
    with watched(file) as (ring, _, failing):
        before = file.stat()
        replace(file, "nothing")
        wait_until(failing)
        replace(file, f"alice: {ALICE}\n")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        wait_until(lambda: not failing())
        assert names(ring) == ["alice"]


def test_what_changed_before_the_watch_began_is_read_at_once(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"bob: {BOB}\n")
    ring = KeyRing(read_key_file(file))
    file.write_text(f"alice: {ALICE}\n")
    watch = KeyWatch(file, ring, Metrics(), poll_s=NEVER_S)
    watch.start()
    wait_until(lambda: names(ring) == ["alice"])
    watch.stop()


def test_asked_it_reads_at_once_even_what_looks_the_same(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"alice: {ALICE}\n")
    with capture_logs() as logged, watched(file, NEVER_S) as (ring, watch, failing):
        replace(file, "wrong")
        for count in (1, 2):
            watch.read_again()
            wait_until(lambda: len(messages(logged, FAILED)) == count)  # noqa: B023
        assert failing()
        replace(file, f"bob: {BOB}\n")
        watch.read_again()
        wait_until(lambda: names(ring) == ["bob"])


def test_no_line_has_a_key(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"alice: {ALICE}\n")
    with capture_logs() as logged, watched(file) as (_, _, failing):
        replace(file, f"alice: {ALICE}\nalice: {BOB}\n{ALICE}\n")
        wait_until(failing)
        replace(file, f"bob: {BOB}\n")
        wait_until(lambda: not failing())
    assert logged
    assert ALICE not in str(logged)
    assert BOB not in str(logged)
