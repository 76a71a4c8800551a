"""What workers count, added up."""

from __future__ import annotations

import json
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from shortlist_server.observability.metrics import Metrics
from shortlist_server.workers.merged_metrics import MergedMetrics


def counted(calls: int, in_flight: int = 0) -> list[dict[str, Any]]:
    """What a worker has counted, as it comes over the link."""
    metrics = Metrics()
    metrics.serves(name='a"b', version="1", sha256="f")
    metrics.watch("items", "Items of the catalogue.", lambda: 60)
    metrics.watch("conversations_kept", "Conversations that the server keeps.", lambda: 7)
    for _ in range(calls):
        metrics.began()
        metrics.ended("Recommend", "OK", 0.003)
    for _ in range(in_flight):
        metrics.began()
    families: list[dict[str, Any]] = json.loads(json.dumps(metrics.families()))
    return families


def parsed(text: str) -> dict[tuple[str, str], float]:
    return {
        (sample.name, json.dumps(sample.labels, sort_keys=True)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, /, **labels: str) -> float:
    return parsed(text)[(name, json.dumps(labels, sort_keys=True))]


CALLS = {"code": "OK", "method": "Recommend"}


def test_counters_histograms_and_what_is_in_flight_add_up() -> None:
    text = MergedMetrics().text([(0, counted(2, in_flight=1)), (1, counted(5, in_flight=3))])
    assert value(text, "shortlist_requests_total", **CALLS) == 7
    assert value(text, "shortlist_requests_in_flight") == 4
    name = "shortlist_request_duration_seconds"
    assert value(text, f"{name}_count", method="Recommend") == 7
    assert value(text, f"{name}_bucket", method="Recommend", le="0.0025") == 0
    assert value(text, f"{name}_bucket", method="Recommend", le="0.005") == 7
    assert value(text, f"{name}_bucket", method="Recommend", le="+Inf") == 7
    assert abs(value(text, f"{name}_sum", method="Recommend") - 0.021) < 1e-9


def test_what_is_the_same_everywhere_is_not_added_up() -> None:
    text = MergedMetrics().text([(0, counted(0)), (1, counted(0))])
    assert value(text, "shortlist_items") == 60
    assert value(text, "shortlist_conversations_kept") == 7
    assert value(text, "shortlist_bundle_info", name='a"b', version="1", sha256="f") == 1


def test_what_tells_of_a_process_names_its_worker() -> None:
    text = MergedMetrics().text([(0, counted(0)), (1, counted(0))])
    for worker in ("0", "1"):
        assert value(text, "process_resident_memory_bytes", worker=worker) > 1e6


def test_no_counter_falls_when_a_worker_ends() -> None:
    merged = MergedMetrics()
    before = merged.text([(0, counted(2)), (1, counted(5, in_flight=2))])
    merged.ended(counted(5, in_flight=2))
    after = merged.text([(0, counted(2)), (1, counted(1))])
    assert value(before, "shortlist_requests_total", **CALLS) == 7
    assert value(after, "shortlist_requests_total", **CALLS) == 8
    assert value(after, "shortlist_requests_in_flight") == 0
    alone = merged.text([])
    assert value(alone, "shortlist_requests_total", **CALLS) == 5


def test_text_is_what_prometheus_client_itself_would_write() -> None:
    from prometheus_client import generate_latest

    metrics = Metrics()
    metrics.serves(name="a\\b\n", version="1", sha256="f")
    metrics.began()
    metrics.ended("Recommend", "OK", 0.003)
    own = {
        key: number
        for key, number in parsed(generate_latest(metrics.registry).decode()).items()
        if key[0].startswith("shortlist")
    }
    merged = parsed(MergedMetrics().text([(0, metrics.families())]))
    assert {key: merged[key] for key in own} == own
