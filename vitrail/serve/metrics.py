"""Counters in Prometheus' text format; each server has its own."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Metrics:
    """The metrics of one server.

    A response is counted before its first byte is sent, so a client that has it finds it counted.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._responses = Counter(
            "vitrail_responses", "Responses by route and status.", ["route", "method", "status"], registry=registry
        )
        self._seconds = Histogram(
            "vitrail_response_seconds",
            "From a request's headers to its response's.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._images = Counter("vitrail_images", "Images computed.", ["model", "kind"], registry=registry)
        self._batch_size = Histogram(
            "vitrail_batch_size", "Images of a batch.", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry
        )
        self._batch_seconds = Histogram(
            "vitrail_batch_seconds", "For a batch, from sending it to the model.", buckets=SECONDS, registry=registry
        )
        self._refused = Counter("vitrail_refused", "Requests refused, by reason.", ["reason"], registry=registry)

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A value that is read at each scrape."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def responded(self, route: str, method: str, status: int, seconds: float) -> None:
        """One response; ``route`` is the route's pattern, which bounds the number of labels."""
        self._responses.labels(route, method if method in METHODS else "other", str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def refused(self, reason: str) -> None:
        """A request that was refused; ``reason`` is one of a few fixed words, which bounds the number of labels."""
        self._refused.labels(reason).inc()

    def computed(self, model: str, kind: str, num_images: int, seconds: float) -> None:
        """A batch that was computed."""
        self._images.labels(model, kind).inc(num_images)
        self._batch_size.observe(num_images)
        self._batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """The exposition, in Prometheus' text format 0.0.4."""
        return generate_latest(self.registry)
