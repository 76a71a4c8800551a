"""Prometheus metrics on a port of their own. The only importer of prometheus_client.

Names and units follow https://prometheus.io/docs/practices/naming/. `docs/metrics.md` lists them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from threading import Thread
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from shortlist_server.errors import ConfigError
from shortlist_server.funnel.types import Answer, Outcome
from shortlist_server.index.plan import SearchPlan
from shortlist_server.index.recall import RecallSnapshot
from shortlist_server.observability.comparison import Comparison

logger = logging.getLogger(__name__)

# The time at which each counter began would double their number, and nothing asks for it.
disable_created_metrics()  # type: ignore[no-untyped-call]

SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01),
    *(0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Bounds of the histograms of times: kernels take tenths of a millisecond."""
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
DIFFERENCES = (0.0, 0.001, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
BREAKER_STATES = ("closed", "half_open", "open")
CANDIDATES = (0, 1, 10, 50, 100, 200, 500, 1_000, 2_000, 4_096)


class Metrics:
    """Counts what the server does. Every method returns at once."""

    def __init__(self) -> None:
        """Begin with nothing counted."""
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self._calls = self._counter("requests", "Calls that ended.", "method", "code")
        self._call_seconds = self._seconds("request", "Time from request to end.", "method")
        self._in_flight = self._gauge("requests_in_flight", "Calls that have not ended.")
        self._stage_seconds = self._seconds("stage", "Time that a stage took.", "stage")
        self._stages = self._counter("stages", "Stages that ran.", "stage", "outcome")
        self._sources = self._counter("sources", "Sources that were asked.", "kind", "outcome")
        self._searches = self._counter("searches", "Searches of the embeddings.", "plan")
        self._degraded = self._counter(
            "degraded", "Parts of the funnel that answers did without.", "stage", "reason"
        )
        self._answers = self._counter("answers", "Answers by the bundle that gave them.", "label")
        self._violations = self._counter(
            "rerank_violations", "Answers of language models by what was wrong with them.", "kind"
        )
        self._rating_violations = self._counter(
            "rating_violations", "Ratings of language models by what was wrong with them.", "kind"
        )
        self._short = self._counter("short_lists", "Answers of too few items.", "reason")
        self._cold = self._counter("cold_starts", "Answers to unknown users.", "basis")
        self._shadows = self._counter(
            "shadow_answers", "Requests that the shadow was to answer, too.", "outcome"
        )
        self._shadow_seconds = self._seconds("shadow", "Time that the shadow took.")
        self._shadow_first = self._counter(
            "shadow_first_items", "Lists of the shadow by whether they begin alike.", "same"
        )
        self._overlap = Histogram(
            "shortlist_shadow_overlap",
            "Share of a list that the shadow has, too.",
            buckets=SHARES,
            registry=self.registry,
        )
        self._score_difference = Histogram(
            "shortlist_shadow_score_difference",
            "Mean difference of the scores of the items that both lists have.",
            buckets=DIFFERENCES,
            registry=self.registry,
        )
        self._candidates = Histogram(
            "shortlist_candidates",
            "Candidates of an answer.",
            buckets=CANDIDATES,
            registry=self.registry,
        )
        self._bundle = self._gauge(
            "bundle_info", "1 for the bundle that serves.", "name", "version", "sha256"
        )
        self._llm_calls = self._counter(
            "llm_calls", "Calls of language models and text embedders.", "model", "outcome"
        )
        self._llm_seconds = self._seconds("llm_call", "Time that such a call took.", "model")
        self._llm_tokens = self._counter(
            "llm_tokens", "Tokens that were sent and answered.", "model", "kind"
        )
        self._llm_cost = self._counter("llm_cost", "Money that calls cost.", "model")
        self._llm_retries = self._counter(
            "llm_retries", "Calls that were made again, since the service was too busy.", "model"
        )
        self._llm_lookups = self._counter(
            "llm_cache_lookups", "Answers that were looked for in the cache.", "model", "found"
        )
        self._llm_breaker = self._gauge(
            "llm_breaker_state", "1 for the state of the circuit breaker.", "model", "state"
        )
        self._turns = self._counter(
            "conversation_turns", "Turns of conversations, by what they asked for.", "action"
        )
        self._turn_stages = self._counter(
            "conversation_stages",
            "What language models did in turns: OK, or why not.",
            "stage",
            "outcome",
        )
        self._turn_violations = self._counter(
            "conversation_violations",
            "Answers of language models in turns, by what was wrong with them.",
            "kind",
        )
        # Looking a child up by its labels takes longer than counting.
        self._children: dict[tuple[int, tuple[str, ...]], Any] = {}

    def began(self) -> None:
        """Count a call in."""
        self._in_flight.inc()

    def ended(self, method: str, code: str, seconds: float) -> None:
        """Count a call out.

        Args:
            method: Short name of the method, `Recommend`.
            code: Name of the status code, `OK`.
            seconds: How long it took.
        """
        self._in_flight.dec()
        self._of(self._calls, method, code).inc()
        self._of(self._call_seconds, method).observe(seconds)

    def answered(self, answer: Answer, label: str) -> None:
        """Count what an answer was made of, and the label of the bundle that gave it."""
        self._of(self._answers, label).inc()
        for stage in answer.stages:
            self._of(self._stages, stage.name, stage.outcome.value).inc()
            if stage.outcome is Outcome.OK:
                self._of(self._stage_seconds, stage.name).observe(stage.duration_ns / 1e9)
            if stage.name == "retrieval":
                self._candidates.observe(stage.items_out)
        for source in answer.sources:
            self._of(self._sources, source.kind, source.outcome.value).inc()
            if (plan := SearchPlan.parse(source.plan.rpartition(": ")[2])) is not None:
                self._of(self._searches, plan.kind).inc()
        for degradation in answer.degraded:
            self._of(self._degraded, degradation.stage, degradation.reason.value).inc()
        if answer.reranked is not None:
            for violation in answer.reranked.violations:
                self._of(self._violations, violation).inc()
        if answer.rated is not None:
            for violation in answer.rated.violations:
                self._of(self._rating_violations, violation).inc()
        if answer.shortfall is not None:
            self._of(self._short, answer.shortfall.value).inc()
        if answer.cold_start is not None:
            self._of(self._cold, answer.cold_start.value).inc()

    def turn_ended(
        self, action: str, failures: Mapping[str, str], violations: Iterable[str]
    ) -> None:
        """Count a turn of a conversation.

        Args:
            action: What it asked for: `recommend`, `swap`, `explain`.
            failures: Why the language model did not do its part, by stage: `intent`, `reply`.
            violations: What was wrong with its answers.
        """
        self._of(self._turns, action).inc()
        for stage in ("intent", "reply"):
            self._of(self._turn_stages, stage, failures.get(stage, "OK")).inc()
        for violation in violations:
            self._of(self._turn_violations, violation).inc()

    def compared(self, comparison: Comparison) -> None:
        """Count how a list of the shadow differs from the one that was sent."""
        self._overlap.observe(comparison.overlap)
        self._of(self._shadow_first, "yes" if comparison.same_first else "no").inc()
        if comparison.score_difference is not None:
            self._score_difference.observe(comparison.score_difference)
        self._shadow_seconds.observe(comparison.seconds)

    def shadow_ended(self, outcome: str) -> None:
        """Count a request that the shadow was to answer: `ok`, `failed` or `dropped`."""
        self._of(self._shadows, outcome).inc()

    def serves(self, *, name: str, version: str, sha256: str) -> None:
        """Name the bundle that serves from now on, in place of the one before."""
        self._bundle.clear()
        self._bundle.labels(name, version, sha256).set(1)

    def llm_called(self, model: str, outcome: str, seconds: float) -> None:
        """Count a call of a language model or text embedder; see `LlmObserver`."""
        self._of(self._llm_calls, model, outcome).inc()
        self._of(self._llm_seconds, model).observe(seconds)

    def llm_spent(self, model: str, input_tokens: int, output_tokens: int, cost: float) -> None:
        """Count what a call cost."""
        self._of(self._llm_tokens, model, "input").inc(input_tokens)
        self._of(self._llm_tokens, model, "output").inc(output_tokens)
        self._of(self._llm_cost, model).inc(cost)

    def llm_retried(self, model: str) -> None:
        """Count a call that was made again."""
        self._of(self._llm_retries, model).inc()

    def llm_looked_up(self, model: str, hits: int, misses: int) -> None:
        """Count what was looked for in the cache."""
        self._of(self._llm_lookups, model, "yes").inc(hits)
        self._of(self._llm_lookups, model, "no").inc(misses)

    def llm_breaker(self, model: str, state: str) -> None:
        """Show the state of a circuit breaker: closed, half_open or open."""
        for one in BREAKER_STATES:
            self._llm_breaker.labels(model, one).set(one == state)

    def watch(self, name: str, documentation: str, value: Callable[[], float]) -> None:
        """Show a number that something else keeps, as it is when it is asked for."""
        self._gauge(name, documentation).set_function(value)

    def watch_label(
        self, name: str, documentation: str, values: Mapping[str, Callable[[], float]]
    ) -> None:
        """Show numbers that the bundle of each label keeps, as they are when they are asked for."""
        gauge = self._gauge(name, documentation, "label")
        for label, value in values.items():
            gauge.labels(label).set_function(value)

    def watch_count(self, name: str, documentation: str, value: Callable[[], int]) -> None:
        """Show a number that something else counts up."""
        self.registry.register(_Count(f"shortlist_{name}", documentation, value))

    def watch_counts(
        self, name: str, documentation: str, label: str, values: Callable[[], Mapping[str, int]]
    ) -> None:
        """Show numbers that something else counts up, by a label."""
        self.registry.register(_Counts(f"shortlist_{name}", documentation, label, values))

    def watch_recall(self, snapshot: Callable[[], RecallSnapshot]) -> None:
        """Show what the recall monitor knows."""
        self.registry.register(_Recall(snapshot))

    def families(self) -> list[dict[str, Any]]:
        """Return all numbers as they are now, as JSON can carry them; see
        `workers.merged_metrics`.
        """
        return [
            {
                "name": family.name,
                "type": family.type,
                "help": family.documentation,
                "samples": [
                    [sample.name, sample.labels, sample.value] for sample in family.samples
                ],
            }
            for family in self.registry.collect()
        ]

    def listen(self, address: str) -> Callable[[], None]:
        """Answer `GET /metrics`, in a thread.

        Args:
            address: HOST:PORT.

        Returns:
            What ends it.

        Raises:
            ConfigError: the address cannot be bound.
        """
        host, _, port = address.rpartition(":")
        try:
            server, thread = start_http_server(
                int(port), addr=host.strip("[]"), registry=self.registry
            )
        except OSError as error:
            raise ConfigError(f"metrics_listen: cannot bind {address}: {error}") from error

        logger.info("metrics on port %d", server.server_port)

        def end(thread: Thread = thread) -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return end

    def _of(self, metric: Counter | Histogram, *labels: str) -> Any:
        key = (id(metric), labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(f"shortlist_{name}", documentation, labels, registry=self.registry)

    def _gauge(self, name: str, documentation: str, *labels: str) -> Gauge:
        return Gauge(f"shortlist_{name}", documentation, labels, registry=self.registry)

    def _seconds(self, name: str, documentation: str, *labels: str) -> Histogram:
        return Histogram(
            f"shortlist_{name}_duration_seconds",
            documentation,
            labels,
            buckets=SECONDS,
            registry=self.registry,
        )


class _Count(Collector):
    """A counter that something else keeps."""

    def __init__(self, name: str, documentation: str, value: Callable[[], int]) -> None:
        self._name = name
        self._documentation = documentation
        self._value = value

    def collect(self) -> Iterable[CounterMetricFamily]:
        """Yield the count as it is now."""
        yield CounterMetricFamily(self._name, self._documentation, value=self._value())


class _Counts(Collector):
    """Counters that something else keeps, by a label."""

    def __init__(
        self, name: str, documentation: str, label: str, values: Callable[[], Mapping[str, int]]
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._label = label
        self._values = values

    def collect(self) -> Iterable[CounterMetricFamily]:
        """Yield the counts as they are now."""
        family = CounterMetricFamily(self._name, self._documentation, labels=[self._label])
        for value, count in self._values().items():
            family.add_metric([value], count)
        yield family


class _Recall(Collector):
    """The recall monitor's figures, by share of the catalogue that the searches allowed."""

    def __init__(self, snapshot: Callable[[], RecallSnapshot]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        """Yield the figures as they are now."""
        labels = ("selectivity_min", "selectivity_max")
        recall = GaugeMetricFamily(
            "shortlist_recall",
            "Share of the true neighbours that searches found, since the start.",
            labels=labels,
        )
        checked = CounterMetricFamily(
            "shortlist_recall_queries", "Searches that were checked.", labels=labels
        )
        snapshot = self._snapshot()
        for bucket in snapshot.buckets:
            bounds = [f"{bucket.selectivity_min:g}", f"{bucket.selectivity_max:g}"]
            checked.add_metric(bounds, bucket.query_count)
            if bucket.recall is not None:
                recall.add_metric(bounds, bucket.recall)
        yield recall
        yield checked
        yield CounterMetricFamily(
            "shortlist_recall_dropped",
            "Searches that were to be checked and were not, since too many waited.",
            value=snapshot.dropped_count,
        )
