"""What a server counts, for Prometheus to read at ``/metrics``: rates by weights and by how answers end, latencies, the queue."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from modelyard.serving.traces import Timeline

SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds of the histograms."""


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers = Counter(
            "modelyard_answers", "Answers by weights and by how they ended.", ("weights", "finish"), registry=self.registry
        )
        self._tokens = Counter("modelyard_new_tokens", "Tokens decoded.", ("weights",), registry=self.registry)
        self._refused = Counter(
            "modelyard_refused", "Requests that were not answered, by status and code.", ("status", "code"), registry=self.registry
        )
        self._opinions = Counter("modelyard_opinions", "What users said.", ("rating", "not_factual"), registry=self.registry)
        self._first = Histogram(
            "modelyard_first_text_seconds", "From a request to the first text of its answer.", buckets=SECONDS, registry=self.registry
        )
        self._whole = Histogram(
            "modelyard_answer_seconds", "From a request to the end of its answer.", buckets=SECONDS, registry=self.registry
        )
        self._serving = Gauge("modelyard_serving", "Requests that are answered now.", registry=self.registry)
        self._waiting = Gauge("modelyard_waiting", "Requests that wait for a row.", registry=self.registry)
        self._tried = Gauge("modelyard_tried_share", "Of users or requests, for the version on trial.", ("kind",), registry=self.registry)

    def refused(self, status: int, code: str) -> None:
        """A request that got an error."""
        self._refused.labels(str(status), code).inc()

    def opinion(self, rating: str | None, not_factual: bool) -> None:
        """Feedback of a user."""
        self._opinions.labels(rating or "none", str(not_factual).lower()).inc()

    def tried(self, kind: str, share: float) -> None:
        """The share that a version on trial has now; 0 when it was stopped."""
        self._tried.labels(kind).set(share)

    def page(self, serving: int, waiting: int) -> bytes:
        """Prometheus' text format, with the load of this moment."""
        self._serving.set(serving)
        self._waiting.set(waiting)
        return generate_latest(self.registry)


class Watch:
    """Counts one answer, by its clock."""

    def __init__(self, metrics: Metrics, weights: str, timeline: Timeline) -> None:
        self._metrics, self._weights, self._timeline = metrics, weights, timeline

    def text(self) -> None:
        """Some text leaves; the first time is what counts."""
        if self._timeline.text():
            self._metrics._first.observe(self._timeline.seconds)

    def ended(self, finish: str, tokens: int) -> None:
        """The answer is over."""
        self._metrics._answers.labels(self._weights, finish).inc()
        self._metrics._tokens.labels(self._weights).inc(tokens)
        self._metrics._whole.observe(self._timeline.seconds)
