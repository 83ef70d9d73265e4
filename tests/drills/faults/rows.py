"""Rows: each fault of the long form, let happen and checked, as a row of the table."""

from __future__ import annotations

import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.drills.faults.drilled import (
    MODULE,
    Drilled,
    change_the_weights,
    check_promise,
    drilled,
)
from tests.drills.faults.promises import FATAL, SURVIVED
from tests.drills.faults.service import PATIENCE, SHRINK
from tests.drills.faults.small_disk import fill, small_disk
from tests.drills.figures import Figure
from tests.drills.services.started import started
from tests.support.hub import Repository, running_hub
from tests.support.processes import PROCESS_S
from tests.support.services import wait_until

MORE_THAN_A_PAGE_TAKES = 10
"""Lines of 1 KB: the last page of the file is on the disk already."""

LATE_S = 5.0
"""How late a deadline of 0.3 s may be kept on a busy machine."""

LIBFAKETIME = next(Path("/usr/lib").glob("**/libfaketimeMT.so.1"), None)


def rows_of_fatal_faults(source: Path, folder: Path) -> dict[str, Figure]:
    """Each ends a process; the next one starts from the same files."""
    rows: dict[str, Figure] = {}
    for promise in FATAL:
        with drilled(source, folder) as drill:
            seen = check_promise(drill, promise)
        rows[promise.fault] = Figure(f"{seen}; exit {promise.exit_code}", promise.words)
    with drilled(source, folder) as drill:
        drill.check_it_is_well()
    return rows


def rows_of_survived_faults(drill: Drilled) -> dict[str, Figure]:
    rows: dict[str, Figure] = {}
    for promise in SURVIVED:
        seen = check_promise(drill, promise)
        drill.order("")
        drill.check_it_is_well()
        rows[promise.fault] = Figure(f"{seen}; the same pictures as before", promise.words)
    return rows


def row_of_a_stop(drill: Drilled) -> Figure:
    """The whole process stands still for longer than an engine may be silent."""
    stopped_s = PATIENCE.hung_s + 3
    with ThreadPoolExecutor() as pool:
        ask = drill.service.ask
        long = {"class_label": 0, "num_sampling_steps": 1000, "num_images": 4}
        patient = pool.submit(ask, "/generate", long)
        hasty = pool.submit(ask, "/generate", long | {"timeout_s": stopped_s - 1})
        wait_until(lambda: drill.service.metric("dit_requests_running") > 0)
        drill.service.process.send_signal(signal.SIGSTOP)
        time.sleep(stopped_s)
        drill.service.process.send_signal(signal.SIGCONT)
        statuses = (patient.result().status, hasty.result().status)
    assert statuses == (200, 504)
    assert "given up" not in " ".join(drill.service.texts())
    drill.check_it_is_well()
    return Figure(
        f"{stopped_s:g} s: 200, and 504 for the deadline that passed; ready",
        "no hang, for the engine was not silent; deadlines go on",
    )


def row_of_changed_weights(drill: Drilled) -> Figure:
    change_the_weights(drill.folder)
    drill.check_it_is_well()
    return Figure("the same pictures as before", "a running service does not read them again")


def rows_of_clock_jumps(source: Path, folder: Path) -> dict[str, Figure]:
    """The wall clock of the process, by libfaketime; the monotonic one is real."""
    offset = folder / "offset"
    offset.write_text("+0d", encoding="utf-8")
    with drilled(
        source,
        folder,
        folder / "clock.log",
        LD_PRELOAD=str(LIBFAKETIME),
        FAKETIME_TIMESTAMP_FILE=str(offset),
        FAKETIME_DONT_FAKE_MONOTONIC="1",
        FAKETIME_NO_CACHE="1",
    ) as drill:
        long = {"class_label": 0, "num_sampling_steps": 1000, "num_images": 4}
        for jump in ("+400d", "-400d"):
            with ThreadPoolExecutor() as pool:
                patient = pool.submit(drill.service.ask, "/generate", long)
                wait_until(lambda: drill.service.metric("dit_requests_running") > 0)
                offset.write_text(jump, encoding="utf-8")
                began = time.monotonic()
                late = drill.service.ask("/generate", long | {"timeout_s": 0.3})
                took_s = time.monotonic() - began
                assert late.status == 504, late.content
                assert patient.result().status == 200, patient.result().content
            assert took_s < LATE_S
            drill.check_it_is_well()
        years = {str(line["timestamp"])[:4] for line in drill.service.lines()}
        assert len(years) > 1, "the clock did not jump"
        assert not drill.service.errors()
    return {
        "the wall clock jumps by 400 days, on and back": Figure(
            "200; a deadline of 0.3 s is kept; ready", "no deadline moves"
        )
    }


def start_fails(source: Path, folder: Path, **environment: str) -> tuple[int, str]:
    """Exit code and log of a start that does not succeed."""
    log = folder / "failed.log"
    log.unlink(missing_ok=True)
    settings = {"DIT_MODEL": str(source), **environment}
    with started("service", log=log, ready=False, settings=settings) as service:
        code = service.process.wait(PROCESS_S)
    return code, log.read_text(encoding="utf-8", errors="replace")


def rows_of_broken_weights(source: Path, folder: Path) -> dict[str, Figure]:
    broken = shutil.copytree(source, folder / "broken")
    weights = next((broken / "transformer").glob("*.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    code, text = start_fails(broken, folder)
    assert code == 1
    assert "cannot start" in text
    assert weights.name in text
    assert "Traceback" not in text

    weights.write_bytes(whole)
    orders = folder / "orders"
    log = folder / "shrunk.log"
    settings = {SHRINK: str(weights)}
    with started(
        MODULE, str(broken), str(orders), log=log, ready=False, settings=settings
    ) as service:
        shrunk = service.process.wait(PROCESS_S)
    assert shrunk == -signal.SIGBUS
    assert "Bus error" in log.read_text(encoding="utf-8", errors="replace")
    return {
        "weights are cut short at the start": Figure(
            f"exit {code}, one line with the file's name", "exit 1 and one line"
        ),
        "weights are cut short while they are read": Figure(
            f"ended by SIGBUS ({shrunk}), the log says where", "an end, not a wrong picture"
        ),
    }


def row_of_a_full_log(source: Path, folder: Path) -> Figure:
    """Standard error is a file on a full disk."""
    with (
        small_disk(folder / "disk", 256) as disk,
        drilled(source, folder, disk / "log") as drill,
    ):
        filler = fill(disk)
        for _ in range(MORE_THAN_A_PAGE_TAKES):
            assert drill.service.ask(f"/{'long' * 250}").status == 404
        drill.check_it_is_well()
        dropped = drill.service.metric("dit_log_lines_dropped_total")
        assert dropped > 0
        filler.unlink()
        drill.check_it_is_well()
        wait_until(lambda: "lines were dropped" in " ".join(drill.service.texts()))
        assert drill.service.end()[0] == 0
    return Figure(
        f"200 throughout; {dropped:.0f} lines dropped, counted and told; exit 0 at the end",
        "requests go on; the lines are counted, and told once there is room",
    )


def row_of_a_full_cache(source: Path, folder: Path) -> Figure:
    """The model arrives from a hub, and the disk is too small for it."""
    with (
        small_disk(folder / "cache", 256) as disk,
        running_hub({"owner/model": Repository(source)}) as hub,
    ):
        code, text = start_fails(
            Path("owner/model"), folder, HF_ENDPOINT=hub.endpoint, HF_HOME=str(disk)
        )
    assert code == 1
    assert "cannot start: owner/model" in text
    assert "No space left" in text
    assert "Traceback" not in text
    return Figure(f"exit {code}, one line: no space left on device", "exit 1 and one line")
