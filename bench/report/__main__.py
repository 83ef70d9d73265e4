"""python -m bench.report: docs/benchmarks.md and .svg from bench/results/*.json alone."""

from bench.options import REPORT, RESULTS
from bench.report.page import write_report

if __name__ == "__main__":
    write_report(RESULTS, REPORT)
