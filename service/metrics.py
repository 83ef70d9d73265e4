"""Metrics: every Prometheus metric of the service, in a registry of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from service import __version__

SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    15.0,
    20.0,
    30.0,
    45.0,
    60.0,
    90.0,
    120.0,
    180.0,
    300.0,
    600.0,
)
MAX_EXEMPLAR = 128 - len("request_id")
"""Characters of an exemplar's value: OpenMetrics allows 128 with the label's name."""

CUTS = ("slow request head", "slow request body", "slow reader", "displaced", "refused")
"""Why connections are closed early."""

COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def exemplar(request_id: str) -> dict[str, str] | None:
    """What leads from a bucket to the log lines of a request in it; None if its id is too long."""
    return {"request_id": request_id} if 0 < len(request_id) <= MAX_EXEMPLAR else None


class DroppedLines(Collector):
    """The counter of log lines that nobody took; asked for at each scrape."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The one metric."""
        text = "Log lines dropped because nothing read them."
        yield CounterMetricFamily("dit_log_lines_dropped", text, value=self._count())


class Metrics:
    """One instance per process. No label ever holds an id, a seed or a class.

    Args:
        dropped_lines: counts the log lines dropped so far.
    """

    def __init__(self, dropped_lines: Callable[[], int] = lambda: 0) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # memory, processor time, open files
        registry.register(DroppedLines(dropped_lines))

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"dit_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"dit_{name}", text, labels, registry=registry)

        def histogram(
            name: str, text: str, *labels: str, buckets: tuple[float, ...] = SECONDS
        ) -> Histogram:
            return Histogram(f"dit_{name}", text, labels, registry=registry, buckets=buckets)

        self.requests = counter("requests_total", "Requests answered.", "route", "outcome")
        self.key_requests = counter(
            "key_requests_total", "Requests with a valid API key.", "key", "outcome"
        )
        self.key_rejections = counter(
            "key_rejections_total",
            "Requests refused for want of a valid API key, or by a limit of their key.",
            "key",
            "reason",
        )
        self.keys_reload_failing = gauge(
            "keys_reload_failing", "1 while the file of the API keys cannot be used, else 0."
        )
        self.connections_cut = counter(
            "connections_cut_total", "Connections closed early.", "reason"
        )
        self.request_duration = histogram(
            "request_duration_seconds",
            "From the arrival of a request's head to the end of its answer.",
            "route",
            "outcome",
        )
        self.queue_wait = histogram(
            "queue_wait_seconds", "From a request's admission to the first tick of its first image."
        )
        self.tick_duration = histogram(
            "tick_duration_seconds", "One denoising step of the images in a tick."
        )
        self.tick_rows = histogram(
            "tick_rows", "Rows of a tick's forward pass, including padding.", buckets=COUNTS
        )
        self.row_limit = gauge(
            "row_limit", "The most rows that a tick may have now; lower after an out-of-memory."
        )
        self.tick_images = histogram("tick_images", "Images that a tick advances.", buckets=COUNTS)
        self.denoise_steps = counter(
            "denoise_steps_total",
            "Row-steps computed: useful ones, padding, and those of images dropped midway.",
            "kind",
        )
        self.guidance_rows_saved = counter(
            "guidance_rows_saved_total",
            "Rows that finished images did without at steps outside their guidance interval.",
        )
        self.decode_duration = histogram(
            "decode_duration_seconds", "One pass of the decoder, over one or several images."
        )
        self.encode_duration = histogram(
            "encode_duration_seconds", "Encoding of one image.", "format"
        )
        self.sign_duration = histogram(
            "sign_duration_seconds", "Signing of one image, where the service signs.", "format"
        )
        self.signing_failures = counter("signing_failures_total", "Images that were not signed.")
        self.signing_expiry = gauge(
            "signing_expiry_timestamp_seconds",
            "Unix time at which the signing certificate expires; 0 where nothing is signed.",
        )
        self.images = counter("images_total", "Images by outcome.", "outcome")
        self.requests_waiting = gauge("requests_waiting", "Requests with no image in flight yet.")
        self.requests_running = gauge("requests_running", "Requests with an image in flight.")
        self.row_steps_waiting = gauge(
            "row_steps_waiting",
            "Work admitted and not yet done, in rows times steps, with previews.",
        )
        self.row_steps_limit = gauge(
            "row_steps_limit", "The most work that is admitted, as row_steps_waiting counts it."
        )
        self.nonfinite_images = counter(
            "nonfinite_images_total", "Decoded images that were not finite."
        )
        self.out_of_memory = counter(
            "out_of_memory_total", "Ticks or decodes that ran out of memory."
        )
        self.gpu_memory = gauge("gpu_memory_bytes", "Device memory, on CUDA.", "kind")
        self.ready = gauge("ready", "1 while /readyz answers 200, else 0.")
        self.state = gauge("state", "1 for the state that the service is in, else 0.", "state")
        self.hub_cache = gauge(
            "hub_cache_bytes", "What the cache has of the model's hub id; grows while it downloads."
        )
        self.heartbeat = gauge(
            "engine_heartbeat_timestamp_seconds", "Unix time of the engine's last sign of life."
        )
        self.model_info = Info("dit_model", "The model that is served.", registry=registry)
        self.build_info = Info("dit_build", "The service's version.", registry=registry)
        self.build_info.info({"version": __version__})
        for reason in ("missing", "unknown"):
            self.key_rejections.labels("", reason)
        for reason in CUTS:
            self.connections_cut.labels(reason)
        for kind in ("useful", "padding", "cancelled"):
            self.denoise_steps.labels(kind)
        for outcome in ("ok", "failed", "cancelled", "timeout", "impossible"):
            self.images.labels(outcome)
