"""Panels: what the dashboard shows, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["timeseries", "stat", "table"]

DIT = 'instance=~"$instance"'
WORK = f'{DIT}, route!~"/livez|/readyz|/metrics|unmatched"'
RATE = "[$__rate_interval]"

IDLE = "no traffic of this kind in the interval: a quantile of nothing is NaN"
CUDA = "only a service on CUDA has it"

COLOURS = {
    "ok": "#56a64b",
    "useful": "#56a64b",
    "cancelled": "#8e8e8e",
    "padding": "#c4c4c4",
    "invalid": "#3274d9",
    "limited": "#8ab8ff",
    "full": "#f2cc0c",
    "impossible": "#b877d9",
    "timeout": "#ff780a",
    "failed": "#e02f44",
}
"""Of lines with these names: green is good, and red alone is a fault of ours."""


@dataclass(frozen=True, slots=True)
class Query:
    """One expression, and the name of its lines.

    ``empty`` says why a healthy service under load may have no value for it, or NaN.
    """

    expr: str
    legend: str = ""
    empty: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of the dashboard. ``width`` is of 24 columns."""

    title: str
    kind: Kind
    unit: str
    queries: tuple[Query, ...]
    description: str = ""
    width: int = 8
    stacked: bool = False
    exemplars: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: tuple[Panel, ...]
    height: int = 7


def stat(title: str, unit: str, expr: str, legend: str = "", *, width: int = 4) -> Panel:
    return Panel(title, "stat", unit, (Query(expr, legend),), width=width)


def lines(
    title: str,
    unit: str,
    *queries: Query,
    description: str = "",
    width: int = 8,
    stacked: bool = False,
) -> Panel:
    return Panel(title, "timeseries", unit, queries, description, width, stacked)


def quantiles(title: str, metric: str, selector: str, description: str) -> Panel:
    """The median, p95 and p99 of a histogram of seconds."""
    queries = tuple(
        Query(
            f"histogram_quantile({quantile}, sum by (le) (rate({metric}_bucket{{{selector}}}{RATE})))",
            name,
            IDLE,
        )
        for quantile, name in ((0.5, "median"), (0.95, "p95"), (0.99, "p99"))
    )
    return Panel(title, "timeseries", "s", queries, description, exemplars=True)


def mean(metric: str) -> str:
    return f"sum(rate({metric}_sum{{{DIT}}}{RATE})) / sum(rate({metric}_count{{{DIT}}}{RATE}))"


STATE = Row(
    "State",
    (
        stat("Ready", "bool_yes_no", f"min(dit_ready{{{DIT}}})", width=3),
        stat("State", "none", f"dit_state{{{DIT}}} == 1", "{{state}}", width=3),
        stat(
            "Heartbeat's age",
            "s",
            f"max(time() - (dit_engine_heartbeat_timestamp_seconds{{{DIT}}} > 0))",
            width=3,
        ),
        stat(
            "Since the start", "s", f"min(time() - process_start_time_seconds{{{DIT}, job='dit'}})"
        ),
        stat("Alerts firing", "none", "count(ALERTS{alertstate='firing'}) or vector(0)", width=3),
        Panel("Model", "table", "none", (Query(f"dit_model_info{{{DIT}}}"),), width=8),
    ),
    height=4,
)

TRAFFIC = Row(
    "Traffic",
    (
        lines(
            "Images per second by outcome",
            "ops",
            Query(f"sum by (outcome) (rate(dit_images_total{{{DIT}}}{RATE}))", "{{outcome}}"),
            stacked=True,
        ),
        lines(
            "Requests per second by outcome",
            "reqps",
            Query(f"sum by (outcome) (rate(dit_requests_total{{{WORK}}}{RATE}))", "{{outcome}}"),
            description="Without health checks and scrapes.",
            stacked=True,
        ),
        lines(
            "Turned away: 429, 503 and 504",
            "reqps",
            *(
                Query(
                    f'sum(rate(dit_requests_total{{{WORK}, outcome="{outcome}"}}{RATE})) or vector(0)',
                    name,
                )
                for outcome, name in (
                    ("full", "429 queue full"),
                    ("timeout", "504 deadline passed"),
                    ("impossible", "504 deadline impossible"),
                    ("unavailable", "503"),
                )
            ),
            description="Impossible deadlines are the client's; the others mean too little capacity.",
        ),
        quantiles(
            "Duration of requests that succeed",
            "dit_request_duration_seconds",
            f'{WORK}, outcome="ok"',
            "From the head of the request to the end of its answer. The points are single requests, "
            "with their ids.",
        ),
        quantiles(
            "Wait in the queue",
            "dit_queue_wait_seconds",
            DIT,
            "From admission to the first tick of a request's first image.",
        ),
        lines(
            "Requests in the engine",
            "none",
            Query(f"sum(dit_requests_running{{{DIT}}})", "running"),
            Query(f"sum(dit_requests_waiting{{{DIT}}})", "waiting"),
            stacked=True,
        ),
    ),
)

KEYS = Row(
    "API keys",
    (
        lines(
            "Requests per second by key",
            "reqps",
            Query(f"sum by (key) (rate(dit_key_requests_total{{{DIT}}}{RATE}))", "{{key}}"),
            description="With a valid key. Empty where none is needed.",
            stacked=True,
        ),
        lines(
            "Refused for their key, per second",
            "reqps",
            Query(
                f"sum by (key, reason) (rate(dit_key_rejections_total{{{DIT}}}{RATE}))",
                "{{key}} {{reason}}",
            ),
            description="No key, one that is not valid, or a limit of the key.",
        ),
        lines(
            "The key file cannot be used",
            "none",
            Query(f"max(dit_keys_reload_failing{{{DIT}}})", "failing"),
            description="1 while it cannot: the keys stay as they were; the log has the reason.",
        ),
    ),
    height=6,
)

ENGINE = Row(
    "Engine",
    (
        lines(
            "Work admitted, in row-steps",
            "none",
            Query(f"sum(dit_row_steps_waiting{{{DIT}}})", "admitted"),
            Query(f"sum(dit_row_steps_limit{{{DIT}}})", "limit"),
            description="At the limit, requests get 429.",
        ),
        quantiles(
            "Duration of a tick",
            "dit_tick_duration_seconds",
            DIT,
            "One forward pass of all images that share it.",
        ),
        lines(
            "Rows and images of a tick",
            "none",
            Query(mean("dit_tick_rows"), "rows", IDLE),
            Query(mean("dit_tick_images"), "images", IDLE),
            Query(f"min(dit_row_limit{{{DIT}}})", "most rows"),
            description="The most rows are fewer for a while after an out-of-memory.",
        ),
        lines(
            "Share of the row-steps computed",
            "percentunit",
            Query(
                f"sum by (kind) (rate(dit_denoise_steps_total{{{DIT}}}{RATE})) / ignoring (kind) "
                f"group_left sum(rate(dit_denoise_steps_total{{{DIT}}}{RATE}))",
                "{{kind}}",
                IDLE,
            ),
            description="Padding and cancelled ones are lost.",
            stacked=True,
        ),
        quantiles(
            "Duration of a decode", "dit_decode_duration_seconds", DIT, "One pass of the decoder."
        ),
        lines(
            "Duration of an encode, p95",
            "s",
            Query(
                "histogram_quantile(0.95, sum by (le, format) "
                f"(rate(dit_encode_duration_seconds_bucket{{{DIT}}}{RATE})))",
                "{{format}}",
                IDLE,
            ),
        ),
        lines(
            "Row-steps per second",
            "none",
            Query(f"sum by (kind) (rate(dit_denoise_steps_total{{{DIT}}}{RATE}))", "{{kind}}"),
            Query(
                f"sum(rate(dit_guidance_rows_saved_total{{{DIT}}}{RATE}))",
                "saved by guidance intervals",
            ),
            description="Counted when an image is finished or dropped.",
            width=12,
        ),
        lines(
            "Passes per second",
            "none",
            Query(f"sum(rate(dit_tick_duration_seconds_count{{{DIT}}}{RATE}))", "ticks"),
            Query(f"sum(rate(dit_decode_duration_seconds_count{{{DIT}}}{RATE}))", "decodes"),
            Query(f"sum(rate(dit_encode_duration_seconds_count{{{DIT}}}{RATE}))", "encodes"),
            width=12,
        ),
    ),
)

FAULTS = Row(
    "Faults and losses",
    (
        lines(
            "In the last hour",
            "none",
            Query(f"sum(increase(dit_out_of_memory_total{{{DIT}}}[1h]))", "out of memory"),
            Query(f"sum(increase(dit_nonfinite_images_total{{{DIT}}}[1h]))", "images not finite"),
            Query(
                f'sum(increase(dit_images_total{{{DIT}, outcome="failed"}}[1h]))', "images failed"
            ),
            Query(f"sum(increase(dit_signing_failures_total{{{DIT}}}[1h]))", "not signed"),
            Query(
                f"sum(changes(process_start_time_seconds{{{DIT}, job='dit'}}[1h]))",
                "restarts",
            ),
        ),
        lines(
            "Connections cut, per second",
            "ops",
            Query(
                f"sum by (reason) (rate(dit_connections_cut_total{{{DIT}}}{RATE}))", "{{reason}}"
            ),
        ),
        lines(
            "Log lines dropped, per second",
            "ops",
            Query(f"sum(rate(dit_log_lines_dropped_total{{{DIT}}}{RATE}))", "dropped"),
        ),
    ),
    height=6,
)

DEVICE = Row(
    "Device and process",
    (
        lines(
            "GPU utilization",
            "percent",
            Query("DCGM_FI_DEV_GPU_UTIL", "GPU {{gpu}} busy"),
            Query("DCGM_FI_DEV_MEM_COPY_UTIL", "GPU {{gpu}} memory busy"),
            description="From NVIDIA's exporter, under the gpu profile. Every GPU that it sees.",
        ),
        lines(
            "GPU memory",
            "bytes",
            Query("DCGM_FI_DEV_FB_USED * 1048576", "GPU {{gpu}} used"),
            Query(
                "(DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE) * 1048576",
                "GPU {{gpu}} usable",
            ),
            Query(
                f'sum by (kind) (dit_gpu_memory_bytes{{{DIT}, kind!="total"}})',
                "{{kind}} by the service",
                CUDA,
            ),
        ),
        lines(
            "GPU temperature and power",
            "none",
            Query("DCGM_FI_DEV_GPU_TEMP", "GPU {{gpu}}, °C"),
            Query("DCGM_FI_DEV_POWER_USAGE", "GPU {{gpu}}, W"),
        ),
        lines(
            "Memory of the process",
            "bytes",
            Query(f"process_resident_memory_bytes{{{DIT}, job='dit'}}", "resident"),
        ),
        lines(
            "Processors used",
            "none",
            Query(f"rate(process_cpu_seconds_total{{{DIT}, job='dit'}}{RATE})", "processors"),
        ),
        lines(
            "Open files and connections",
            "none",
            Query(f"process_open_fds{{{DIT}, job='dit'}}", "open"),
            Query(f"process_max_fds{{{DIT}, job='dit'}}", "limit"),
        ),
    ),
    height=6,
)

ROWS = (STATE, TRAFFIC, KEYS, ENGINE, FAULTS, DEVICE)
