"""FrontMetrics: what only a front can count."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from service.fleet.sending.resending import Setback


class FrontMetrics:
    """Of one front, in a registry of its own.

    Args:
        models: their names.
    """

    def __init__(self, models: Iterable[str]) -> None:
        self._registry = CollectorRegistry()
        self._resent = Counter(
            "dit_fleet_resent_total",
            "Requests sent to a second replica, by what was wrong with the first.",
            ("model", "reason"),
            registry=self._registry,
        )
        self._replicas = Gauge(
            "dit_fleet_replicas",
            "Replicas that a front sends requests to.",
            ("model",),
            registry=self._registry,
        )
        for model in models:
            for setback in Setback:
                self._resent.labels(model, setback.value)

    def sent_again(self, model: str, setback: Setback) -> None:
        """A request of this model goes to another replica."""
        self._resent.labels(model, setback.value).inc()

    def has_replicas(self, model: str, count: int) -> None:
        """How many there are at present."""
        self._replicas.labels(model).set(count)

    def text(self) -> str:
        """In the format that Prometheus reads; without a process's own, which replicas have."""
        return generate_latest(self._registry).decode()
