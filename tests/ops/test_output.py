"""Whatever the service prints, printing neither blocks nor ends it."""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from service.output import Output
from tests.support.processes import PROCESS_S, answers, free_port
from tests.support.services import PATIENCE_S, wait_until

ROOT = Path(__file__).parents[2]
MORE_THAN_A_PIPE_TAKES = 100
"""Lines of 1 KB: Linux's pipes take 64 KiB."""


def written(data: bytes) -> list[str]:
    return data.decode().splitlines()


@pytest.fixture
def full_pipe() -> Iterator[tuple[int, int]]:
    """The ends of a pipe that nobody reads and that takes no more."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x\n" * 1000)
    os.set_blocking(writer, True)
    yield reader, writer
    for fd in (reader, writer):
        os.close(fd)


def read_until(reader: int, text: bytes) -> bytes:
    data = b""
    while text not in data:
        assert select.select([reader], [], [], PATIENCE_S)[0], data[-200:]
        data += os.read(reader, 1 << 20)
    return data


@pytest.mark.parametrize("blocking", [True, False])
def test_what_finds_no_room_is_dropped_counted_and_told(
    full_pipe: tuple[int, int], blocking: bool
) -> None:
    reader, writer = full_pipe
    os.set_blocking(writer, blocking)
    output = Output(writer, lambda dropped: f"{dropped} dropped\n", max_waiting=10)
    output.start()
    for number in range(100):  # the thread may hold one besides the ten
        output.write(f"line {number}\n")
    output.flush(0.01)
    assert output.dropped in (89, 90)
    told = read_until(reader, b" dropped\n")
    lines = [line for line in written(told) if line != "x"]
    kept = 100 - output.dropped
    assert lines == [*(f"line {number}" for number in range(kept)), f"{output.dropped} dropped"]
    output.write("later\n")
    output.flush(PATIENCE_S)
    assert os.read(reader, 100) == b"later\n"


def test_without_a_reader_all_is_dropped() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    output = Output(writer, str)
    output.start()
    for _ in range(3):
        output.write("line\n")
    output.flush(PATIENCE_S)
    assert output.dropped == 3
    os.close(writer)


PRINTING = """
import logging, os, socket, sys, warnings
from service.logs import capture_prints, configure_logs
from service.output import secure_standard_streams

secure_standard_streams()
taken = socket.socket().fileno()
capture_prints(sys.argv[1], configure_logs(sys.argv[1]).output)
for number in range(1500):
    print("printed", number)
    print("an error", number, file=sys.stderr)
    warnings.warn(f"a warning {number}")
    logging.getLogger("any").warning("a line %d", number)
try:
    os.write(2, b"from a native library" * 10_000)
except OSError:  # which a native library ignores
    pass
sys.exit(7 if taken > 2 else 8)
"""


def test_a_line_that_was_cut_does_not_swallow_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk has room for a part of a line, then for nothing, then for everything."""
    reader, writer = os.pipe()
    rooms = iter([3, 0, 1, 0])
    write = os.write

    def write_what_fits(fd: int, data: bytes) -> int:
        room = next(rooms, len(data)) if fd == writer else len(data)  # other threads write, too
        if room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[:room])

    monkeypatch.setattr("service.output.os.write", write_what_fits)
    output = Output(writer, lambda dropped: f"{dropped} dropped\n")
    output.start()
    for text in ("first\n", "second\n", "third\n"):
        output.write(text)
    output.flush(PATIENCE_S)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        lines = [line for line in written(file.read()) if line]
    assert lines[:2] == ["fir", "third"]
    assert output.dropped == 2


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("redirect", ["", "2>&-", "<&- >&- 2>&-", "2>/dev/full"], ids=str)
def test_printing_goes_on_whatever_standard_error_is(redirect: str, form: str) -> None:
    reader, writer = os.pipe()  # nobody reads what is not redirected
    ended = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {form} {redirect}', sys.executable, PRINTING],
        cwd=ROOT,
        stdout=writer,
        stderr=writer,
        timeout=PROCESS_S,
        check=False,
    )
    for fd in (reader, writer):
        os.close(fd)
    assert ended.returncode == 7


@contextmanager
def service(pipeline_folder: Path, stderr: int, address_file: Path) -> Iterator[str]:
    """A running service without standard input and output; it must end with 0."""
    port = free_port()
    command = f'exec "$0" -m service --port {port} --model "$1" --device cpu <&- >&-'
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DIT_")}
    process = subprocess.Popen(
        ["sh", "-c", command, sys.executable, str(pipeline_folder)],
        env=clean | {"OMP_NUM_THREADS": "1", "DIT_ADDRESS_FILE": str(address_file)},
        cwd=ROOT,
        stderr=stderr,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(f"{url}/readyz"), PROCESS_S)
        yield url
        process.send_signal(signal.SIGTERM)
        assert process.wait(PROCESS_S) == 0
    finally:
        process.kill()
        process.wait()


def test_the_service_runs_on_and_stops_when_nobody_reads_it(
    pipeline_folder: Path, tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    with (
        service(pipeline_folder, writer, tmp_path / "address") as url,
        httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE_S) as client,
    ):
        os.close(writer)
        for _ in range(MORE_THAN_A_PIPE_TAKES):
            assert client.get(f"/{'long' * 250}").status_code == 404
        assert client.get("/livez").status_code == 200
        assert (tmp_path / "address").read_text() == f"{url}\n"
        first_lines = os.read(reader, 1 << 16).decode(errors="replace")
        assert re.search(rf"\] ready .*url={url}$", first_lines, re.MULTILINE)
        assert "Uvicorn" not in first_lines
        os.close(reader)
        wait_until(lambda: "\ndit_log_lines_dropped_total 0.0" not in client.get("/metrics").text)
