"""GPU tests: pytest -m gpu, with the outcome and the time of each test."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from bench.options import ROOT, Options
from bench.report.figures import Cell, Measured, Spread, Table

MARK = "pytest.mark.gpu"
TIMEOUT_S = 570.0


class TestsBroken(RuntimeError):
    """pytest ended without a result; the message shows the end of its output."""


@dataclass(frozen=True, slots=True)
class GpuTests:
    """Only the files with GPU tests are imported: the others need packages that a host may lack."""

    files: tuple[str, ...]

    @classmethod
    def planned(cls, options: Options) -> GpuTests:
        paths = sorted((ROOT / "tests").rglob("test_*.py"))
        marked = [path for path in paths if f"@{MARK}" in path.read_text(encoding="utf-8")]
        return cls(tuple(str(path.relative_to(ROOT)) for path in marked))

    def run(self, options: Options) -> Measured:
        report = options.log("gpu tests").with_suffix(".xml")
        report.unlink(missing_ok=True)
        command = ["-m", "pytest", "-m", "gpu", "-q", f"--junitxml={report}", *self.files]
        done = subprocess.run(
            [sys.executable, *command],
            check=False,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        options.log("gpu tests").write_text(done.stdout + done.stderr, encoding="utf-8")
        if not report.exists():
            raise TestsBroken("\n".join((done.stdout + done.stderr).splitlines()[-5:]))
        rows = read_report(report)
        failed = sum(outcome in ("failure", "error") for _, outcome, *_ in rows)
        failed = failed or int(done.returncode != 0)
        header = ("test", "outcome", "s", "why")
        title = f"pytest -m gpu: {len(rows)} tests, {failed} failed"
        return Measured({"failed": Spread((float(failed),))}, (Table(title, header, rows),))


def read_report(path: Path) -> tuple[tuple[Cell, ...], ...]:
    """Test, outcome, seconds and the first line of the reason, from JUnit's XML."""
    rows: list[tuple[Cell, ...]] = []
    for case in ET.parse(path).iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        found = next((each for each in case if each.tag in ("failure", "error", "skipped")), None)
        outcome = "passed" if found is None else found.tag
        why = "" if found is None else found.get("message", "").partition("\n")[0][:120]
        rows.append((name, outcome, float(case.get("time", 0)), why.replace("|", "/")))
    return tuple(rows)
