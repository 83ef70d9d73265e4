"""Page: docs/benchmarks.md and its plot, from the results alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.report import markdown
from bench.report.comparisons import comparisons
from bench.report.figures import Facts, Spread, SuiteResult, read_results
from bench.report.plot import write_plot
from bench.report.summary import sentences
from bench.report.targets import TARGETS, Target
from bench.suites.catalogue import SUITES

DEVICES = {"cpu": "On a CPU", "cuda": "On a GPU"}

METHOD = """\
## How it is measured

Written by `make bench`; `bench/results/` holds the value of every round.
`make bench ARGS="alone serving"` repeats these suites; add `--quick` to only check that they run.

Arms are measured in turn, A B A B, in one run. Each has its own process with its libraries' own choice of
threads, and the others sleep meanwhile. Ratios are taken round by round; the tables show the median of the
rounds and, in parentheses, the lowest and the highest. Compare ratios of one run, not times of two
machines. All arms have the same weights, labels, noise, timesteps, guidance and autoencoder. Before anything
is timed, the latents of the fp32 arms must agree to 1e-4; the error of bf16 is reported. Loading, compiling
and warming up are not part of the times.

"diffusers" is the loop of DiTPipeline around its transformer, DDIMScheduler and autoencoder, eager, on the
same model folder. The loop is ours, because the pipeline uses 1000 as the null class of every model. "ours"
is the service, or without HTTP its runner, with the defaults of `python -m service`: bf16 (the autoencoder
too) on a CPU with bf16 instructions.
"""


def write_report(results: Path, report: Path) -> None:
    """Write the page and, beside it, one plot for each device with comparisons."""
    found = read_results(results)
    plots = {}
    for device in DEVICES:
        if compared := comparisons(found, device):
            suffix = "" if device == "cpu" else f"-{device}"
            plots[device] = report.with_name(f"{report.stem}{suffix}.svg")
            facts = next(one.facts for one in found if one.device == device)
            where = facts.gpu or f"{facts.machine}, {facts.cores} cores"
            write_plot(compared, f"Speed relative to the alternatives ({where})", plots[device])
    names = {device: plot.name for device, plot in plots.items()}
    report.write_text(render(found, names), encoding="utf-8")


def render(results: Sequence[SuiteResult], plots: dict[str, str] | None = None) -> str:
    """The whole page; ``plots``: file names by device."""
    parts = ["# Benchmarks\n"]
    for device, plot in (plots or {}).items():
        parts += [f"![Speed relative to the alternatives ({device.upper()})]({plot})\n"]
        parts += [f"- {sentence}" for sentence in sentences(results, device)]
        parts += [""]
    parts += ["## Targets\n", _targets(results), "", METHOD]
    for device, title in DEVICES.items():
        here = [one for one in results if one.device == device]
        parts.append(f"## {title}\n")
        parts += [_suite(one) for name in SUITES for one in here if one.suite == name]
        missing = [name for name in SUITES if name not in {one.suite for one in here}]
        if missing:
            parts.append(f"Not measured: {', '.join(missing)}.\n")
    return "\n".join(parts)


def _targets(results: Sequence[SuiteResult]) -> str:
    header = ("device", "what", "target", "measured", "lowest .. highest", "reached")
    return markdown.table(header, [_target(each, each.measured(results)) for each in TARGETS])


def _target(target: Target, found: Spread | None) -> tuple[str, ...]:
    def shown(value: float) -> str:
        return markdown.in_unit(value, target.unit)

    bound = f"{'under' if target.below else 'at least'} {shown(target.bound)}"
    row = (target.device.upper(), target.what, bound)
    if found is None:
        return (*row, "not measured", "-", "-")
    spread = f"{shown(found.low)} .. {shown(found.high)}"
    return (*row, shown(found.median), spread, "yes" if target.reached(found) else "**no**")


def _suite(result: SuiteResult) -> str:
    title = f"{result.suite}: {result.model}" if result.model else result.suite
    about = (SUITES[result.suite].__doc__ or "").partition("\n")[0]
    facts = _facts(result.facts, result.plan)
    tables = [markdown.of_table(table) for table in result.measured.tables]
    notes = " ".join(result.measured.notes)
    return "\n\n".join(filter(None, [f"### {title}", about, facts, *tables, notes])) + "\n"


def _facts(facts: Facts, plan: str) -> str:
    where = f"{facts.machine}, {facts.cores} cores" + (f", {facts.gpu}" if facts.gpu else "")
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    return (
        f"`{facts.command}`, {facts.date}, commit {facts.commit}, {facts.minutes:.1f} minutes; {where};"
        f" {versions}; threads: {facts.threads}; load average {facts.load_before:.2f} before,"
        f" {facts.load_after:.2f} after.\n\nMeasured: {plan}."
    )
