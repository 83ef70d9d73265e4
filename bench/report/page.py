"""python -m bench.report: docs/benchmarks.md from bench/results/*.json, and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.options import REPORT, RESULTS
from bench.report import markdown
from bench.report.figures import Facts, Spread, SuiteResult, read_results
from bench.report.targets import TARGETS, Target
from bench.suites.catalogue import SUITES

DEVICES = {"cpu": "On a CPU", "cuda": "On a GPU"}

INTRODUCTION = """\
# Benchmarks

Written by `make bench`; `bench/results/` holds every round of what stands here.
`make bench ARGS="alone serving"` measures these parts anew, with `--quick` only to see that they run.

How to read it: arms are measured in turn, A B A B, in one run, each in a process of its own with its
libraries' own choice of threads, while the others sleep. A ratio is taken round by round; what stands
here is the median of the rounds, and behind it in brackets the least and the most. Ratios of one run
can be compared, times of two machines cannot. All arms have the same weights, labels, noise, timesteps,
guidance and autoencoder; before anything is timed the fp32 arms' latents agree to 1e-4, and bf16's
error is told. Loading, compiling and warming up stand apart.

"diffusers" is DiTPipeline's own loop around its transformer, DDIMScheduler and autoencoder, eager, on
the same folder. The loop is ours because the pipeline takes class 1000 for the null class of every
model. "ours" is the service, or without HTTP its runner, as `python -m service` sets itself up:
on a CPU with bf16 products that is bf16, the autoencoder too.
"""


def render(results: Sequence[SuiteResult]) -> str:
    """The whole report."""
    parts = [INTRODUCTION, "## Targets\n", _targets(results)]
    for device, title in DEVICES.items():
        parts.append(f"\n## {title}")
        here = [one for one in results if one.device == device]
        parts += [_suite(one) for name in SUITES for one in here if one.suite == name]
        missing = [name for name in SUITES if name not in {one.suite for one in here}]
        if missing:
            parts.append(f"\nNot measured: {', '.join(missing)}.")
    return "\n".join(parts) + "\n"


def _targets(results: Sequence[SuiteResult]) -> str:
    rows = [_target_row(target, target.spread_in(results)) for target in TARGETS]
    header = ("on", "what", "at least", "came to", "spread", "reached")
    return markdown.table(header, rows)


def _target_row(target: Target, found: Spread | None) -> tuple[str, ...]:
    def told(value: float) -> str:
        return markdown.in_unit(value, target.unit)

    bound = f"under {told(target.bound)}" if target.below else told(target.bound)
    row = (target.device.upper(), target.what, bound)
    if found is None:
        return (*row, "not measured", "-", "-")
    spread = f"{told(found.low)} .. {told(found.high)}"
    return (*row, told(found.median), spread, "yes" if target.reached(found) else "**no**")


def _suite(result: SuiteResult) -> str:
    title = f"{result.suite}: {result.model}" if result.model else result.suite
    parts = [f"\n### {title}\n", _about(result.suite), _facts(result.facts, result.plan), ""]
    parts += [f"{markdown.of_table(table)}\n" for table in result.measured.tables]
    return "\n".join([*parts, *result.measured.notes])


def _about(suite: str) -> str:
    """The first docstring line of the suite's module, without its name."""
    planned = SUITES[suite]
    module = __import__(planned.__module__, fromlist=["__doc__"])
    line = (module.__doc__ or "").partition("\n")[0].partition(": ")[2]
    return f"{line[:1].upper()}{line[1:]}\n"


def _facts(facts: Facts, plan: str) -> str:
    where = f"{facts.machine}, {facts.cores} cores" + (f", {facts.gpu}" if facts.gpu else "")
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    return (
        f"`{facts.command}`, {facts.date}, commit {facts.commit}, {facts.minutes:.1f} minutes; {where};"
        f" {versions}; threads: {facts.threads}; load average {facts.load_before:.2f} before,"
        f" {facts.load_after:.2f} after.\n\nMeasured: {plan}."
    )


def write_report(results: Path = RESULTS, report: Path = REPORT) -> None:
    report.write_text(render(read_results(results)), encoding="utf-8")


if __name__ == "__main__":
    write_report()
