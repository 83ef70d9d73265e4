"""API keys as the process sees them: the settings that name them, and signals."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from service.http.keys.configure import key_ring_of
from service.settings import SettingsError, read_settings
from tests.ops.test_settings import run_service
from tests.support.keys import ALICE, BOB, bearer
from tests.support.processes import PROCESS_S, answers, catches, free_port, process
from tests.support.services import wait_until


@pytest.fixture(autouse=True)
def _without_dit_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("DIT_")]:
        monkeypatch.delenv(name)


def names_with(monkeypatch: pytest.MonkeyPatch, **variables: str) -> list[str] | None:
    """The names of the keys that these variables set."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ring = key_ring_of(read_settings([]), os.environ)
    return None if ring is None else [key.name for key in ring.keys]


def test_keys_come_from_a_file_or_from_a_list(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert names_with(monkeypatch) is None
    assert names_with(monkeypatch, DIT_API_KEYS=f"alice: {ALICE}, bob: {BOB}") == ["alice", "bob"]
    monkeypatch.delenv("DIT_API_KEYS")
    file = tmp_path / "keys"
    file.write_text(f"alice: {ALICE}\n")
    assert names_with(monkeypatch, DIT_API_KEYS_FILE=str(file)) == ["alice"]
    assert names_with(monkeypatch, DIT_API_KEYS_FILE="") is None  # as compose sets it


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"alice: {ALICE}, bob: {ALICE}", "entry 2: its key is that of entry 1"),
        (f"alice: {ALICE}, alice: {BOB}", "entry 2: its name is that of entry 1"),
        ("alice: secret-of-19-chars.", "entry 1: the key has 19 characters"),
        (ALICE, "entry 1: it should be NAME: KEY, then limits"),
        ("alice:", "entry 1: the key is missing"),
        (" ", "it has no key"),
        ("", "it has no key"),
    ],
)
def test_a_wrong_list_is_told_without_a_key(
    monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        names_with(monkeypatch, DIT_API_KEYS=text)
    assert str(caught.value).startswith(f"DIT_API_KEYS (--api-keys): {reason}")
    assert not [each for each in (ALICE, BOB, "secret") if each in str(caught.value)]


def test_a_file_and_a_list_are_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="DIT_API_KEYS is set as well"):
        names_with(monkeypatch, DIT_API_KEYS_FILE="keys", DIT_API_KEYS=f"alice: {ALICE}")


def test_settings_do_not_show_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIT_API_KEYS", f"alice: {ALICE}")
    assert ALICE not in repr(read_settings([]))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "it cannot be read: No such file or directory"),
        ("", "it has no key"),
        (f"alice: {ALICE}\nbob: {BOB[:7]}\n", "line 2: the key has 7 characters"),
    ],
)
def test_a_wrong_file_ends_the_start_with_one_line(
    tmp_path: Path, text: str | None, reason: str
) -> None:
    file = tmp_path / "keys"
    if text is not None:
        file.write_text(text)
    ended = run_service([], DIT_API_KEYS_FILE=str(file))
    assert ended.returncode == 2
    assert ended.stderr.startswith(
        f"DIT_API_KEYS_FILE (--api-keys-file) is {str(file)!r}: {reason}"
    )
    assert ended.stderr.count("\n") == 1
    assert BOB[:7] not in ended.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_ends_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    file.write_text(f"alice: {ALICE}\n")
    file.chmod(stat.S_IWUSR)
    with pytest.raises(SettingsError, match="it cannot be read: Permission denied"):
        names_with(monkeypatch, DIT_API_KEYS_FILE=str(file))


def reload(running: subprocess.Popen[str], url: str, key: str, status: int) -> None:
    """Send SIGHUP until a key is answered so."""

    def answered() -> bool:
        running.send_signal(signal.SIGHUP)
        answer = httpx.get(f"{url}/classes", headers=bearer(key), trust_env=False)
        return answer.status_code == status

    wait_until(answered)


def test_a_hangup_reads_the_file_again_and_stops_nothing(
    pipeline_folder: Path, tmp_path: Path
) -> None:
    file, port = tmp_path / "keys", free_port()
    file.write_text(f"alice: {ALICE}\n")
    url = f"http://127.0.0.1:{port}"
    settings = {"DIT_MODEL": str(pipeline_folder), "DIT_API_KEYS_FILE": str(file)}
    with process(DIT_PORT=str(port), DIT_LOG_FORMAT="json", **settings) as running:
        wait_until(lambda: catches(running, signal.SIGTERM), PROCESS_S)
        running.send_signal(signal.SIGHUP)  # nothing is read yet, and nothing ends
        wait_until(lambda: answers(f"{url}/readyz", 200), PROCESS_S)
        wait_until(lambda: catches(running, signal.SIGHUP), PROCESS_S)
        reload(running, url, ALICE, 200)
        file.write_text(f"bob: {BOB}\n")
        reload(running, url, BOB, 200)
        reload(running, url, ALICE, 401)
        running.terminate()
        _, printed = running.communicate(timeout=PROCESS_S)
        assert running.returncode == 0
    assert '"event": "requests need an API key"' in printed
    assert '"added": ["bob"], "removed": ["alice"]' in printed
    assert '"key": "bob"' in printed
    assert ALICE not in printed
    assert BOB not in printed


def test_the_command_that_makes_keys_loads_no_torch() -> None:
    check = "import sys, service.http.keys.__main__; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], check=False)
    assert done.returncode == 0
