"""Metrics count what happened, and are served where the configuration says."""

from __future__ import annotations

import re
import socket
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from shortlist_server.errors import ConfigError
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.options import Nearest, Options, Popular, SourceOptions
from shortlist_server.funnel.rating import Rated
from shortlist_server.funnel.reranking import Reranked
from shortlist_server.funnel.types import (
    Answer,
    Degradation,
    DegradedReason,
    Outcome,
    Query,
    Shortfall,
    User,
)
from shortlist_server.generation import Generation
from shortlist_server.index.recall import RecallBucket, RecallSnapshot
from shortlist_server.llm.breaker import BreakerState
from shortlist_server.observability.metrics import Metrics

STATES = [state.value for state in BreakerState]


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Values by name and label values; Prometheus lists labels in order of their names."""
    text = generate_latest(metrics.registry).decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def answer_of(generation: Generation, user: str, options: Options) -> Answer:
    query = Query(subject=User(id=user))
    return generation.funnel.recommend(query, options, Budget(10))


def test_calls_are_counted_by_method_and_code() -> None:
    metrics = Metrics()
    for code in ("OK", "OK", "INVALID_ARGUMENT"):
        metrics.began()
        metrics.ended("Recommend", code, 0.003)
    metrics.began()
    found = samples(metrics)
    assert found["shortlist_requests_total", "OK", "Recommend"] == 2
    assert found["shortlist_requests_total", "INVALID_ARGUMENT", "Recommend"] == 1
    assert found["shortlist_requests_in_flight",] == 1
    assert found["shortlist_request_duration_seconds_bucket", "0.0025", "Recommend"] == 0
    assert found["shortlist_request_duration_seconds_bucket", "0.005", "Recommend"] == 3
    assert found["shortlist_request_duration_seconds_sum", "Recommend"] == pytest.approx(0.009)


def test_an_answer_is_counted_by_what_it_was_made_of(generation: Generation) -> None:
    sources = (SourceOptions(settings=Nearest()), SourceOptions(settings=Popular()))
    answer = answer_of(generation, "u3", Options(limit=4, candidate_count=8, sources=sources))
    late = Degradation(stage="retrieval", reason=DegradedReason.OUT_OF_TIME, message="late")
    metrics = Metrics()
    metrics.answered(replace(answer, degraded=(late,), shortfall=Shortfall.CAPS), "stable")
    metrics.answered(answer_of(generation, "nobody", Options(limit=4, candidate_count=8)), "canary")
    found = samples(metrics)
    for stage in ("query", "retrieval", "select"):
        assert found["shortlist_stages_total", Outcome.OK.value, stage] == 2
        assert found["shortlist_stage_duration_seconds_count", stage] == 2
    assert found["shortlist_sources_total", "nearest", "OK"] == 1
    assert found["shortlist_sources_total", "popularity", "OK"] == 2
    assert found["shortlist_searches_total", "exact"] == 1
    assert found["shortlist_degraded_total", "OUT_OF_TIME", "retrieval"] == 1
    assert found["shortlist_short_lists_total", "CAPS"] == 1
    assert found["shortlist_cold_starts_total", "NOTHING"] == 1
    assert found["shortlist_answers_total", "stable"] == 1
    assert found["shortlist_answers_total", "canary"] == 1
    assert found["shortlist_candidates_count",] == 2
    wanted = sum(
        next(stage.items_out for stage in one.stages if stage.name == "retrieval")
        for one in (answer, answer_of(generation, "nobody", Options(limit=4, candidate_count=8)))
    )
    assert found["shortlist_candidates_sum",] == wanted


def test_what_was_wrong_with_orders_of_language_models_is_counted(generation: Generation) -> None:
    answer = answer_of(generation, "u3", Options(limit=4))
    said = Reranked(
        plan="", failure=DegradedReason.LLM_INVALID_OUTPUT, violations=("foreign", "missing")
    )
    metrics = Metrics()
    metrics.answered(replace(answer, reranked=said), "stable")
    metrics.answered(replace(answer, reranked=replace(said, violations=("foreign",))), "stable")
    found = samples(metrics)
    assert found["shortlist_rerank_violations_total", "foreign"] == 2
    assert found["shortlist_rerank_violations_total", "missing"] == 1


def test_what_was_wrong_with_ratings_of_language_models_is_counted(generation: Generation) -> None:
    answer = answer_of(generation, "u3", Options(limit=4))
    metrics = Metrics()
    for violations in (("clamped",), ("clamped", "foreign"), ()):
        metrics.answered(replace(answer, rated=Rated(plan="", violations=violations)), "stable")
    found = samples(metrics)
    assert found["shortlist_rating_violations_total", "clamped"] == 2
    assert found["shortlist_rating_violations_total", "foreign"] == 1


def test_recall_is_shown_by_bucket() -> None:
    buckets = (
        RecallBucket(selectivity_min=0.0, selectivity_max=0.1, query_count=0, recall=None),
        RecallBucket(selectivity_min=0.1, selectivity_max=1.0, query_count=7, recall=0.75),
    )
    metrics = Metrics()
    metrics.watch_recall(lambda: RecallSnapshot(buckets=buckets, dropped_count=3))
    found = samples(metrics)
    assert found["shortlist_recall", "1", "0.1"] == 0.75
    assert ("shortlist_recall", "0.1", "0") not in found
    assert found["shortlist_recall_queries_total", "1", "0.1"] == 7
    assert found["shortlist_recall_dropped_total",] == 3


def test_what_others_keep_is_shown_as_it_is_now() -> None:
    kept = {"waiting": 1, "dropped": 2}
    metrics = Metrics()
    metrics.watch("waiting", "Waiting.", lambda: kept["waiting"])
    metrics.watch_count("dropped", "Dropped.", lambda: kept["dropped"])
    metrics.watch_counts("ended", "Ended.", "how", lambda: kept)
    assert samples(metrics)["shortlist_waiting",] == 1
    kept |= {"waiting": 5, "dropped": 6}
    assert samples(metrics)["shortlist_waiting",] == 5
    assert samples(metrics)["shortlist_dropped_total",] == 6
    assert samples(metrics)["shortlist_ended_total", "waiting"] == 5


def test_calls_of_language_models_are_counted() -> None:
    metrics = Metrics()
    metrics.llm_called("gemini/m", "OK", 0.3)
    metrics.llm_called("gemini/m", "LLM_TIMEOUT", 2.0)
    metrics.llm_spent("gemini/m", 120, 30, 0.002)
    metrics.llm_spent("gemini/m", 80, 0, 0.001)
    metrics.llm_retried("gemini/m")
    metrics.llm_looked_up("gemini/m", 3, 4)
    for state in ("closed", "open"):
        metrics.llm_breaker("gemini/m", state)
    found = samples(metrics)
    assert found["shortlist_llm_calls_total", "gemini/m", "OK"] == 1
    assert found["shortlist_llm_calls_total", "gemini/m", "LLM_TIMEOUT"] == 1
    assert found["shortlist_llm_call_duration_seconds_sum", "gemini/m"] == pytest.approx(2.3)
    assert found["shortlist_llm_tokens_total", "input", "gemini/m"] == 200
    assert found["shortlist_llm_tokens_total", "output", "gemini/m"] == 30
    assert found["shortlist_llm_cost_total", "gemini/m"] == pytest.approx(0.003)
    assert found["shortlist_llm_retries_total", "gemini/m"] == 1
    assert found["shortlist_llm_cache_lookups_total", "yes", "gemini/m"] == 3
    assert found["shortlist_llm_cache_lookups_total", "no", "gemini/m"] == 4
    states = {state: found["shortlist_llm_breaker_state", "gemini/m", state] for state in STATES}
    assert states == {"closed": 0, "half_open": 0, "open": 1}


def test_only_the_bundle_that_serves_is_named() -> None:
    metrics = Metrics()
    metrics.serves(name="films", version="1", sha256="aa")
    metrics.serves(name="films", version="2", sha256="bb")
    found = {key: value for key, value in samples(metrics).items() if "bundle_info" in key[0]}
    assert found == {("shortlist_bundle_info", "films", "bb", "2"): 1}


def test_metrics_are_served_until_they_end(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    with caplog.at_level("INFO"):
        end = metrics.listen("127.0.0.1:0")
    port = int(caplog.messages[-1].rsplit(maxsplit=1)[-1])
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        assert b"process_resident_memory_bytes" in response.read()
    with pytest.raises(ConfigError, match=f"metrics_listen: cannot bind 127.0.0.1:{port}"):
        Metrics().listen(f"127.0.0.1:{port}")
    end()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=10)


def test_the_page_lists_all_metrics_and_no_others() -> None:
    metrics = Metrics()
    metrics.watch_recall(lambda: RecallSnapshot(buckets=(), dropped_count=0))
    families = {family.name: family.type for family in metrics.registry.collect()}
    own = {
        f"{name}_total" if kind == "counter" else name: kind
        for name, kind in families.items()
        if name.startswith("shortlist_")
    }
    # What `app.watch` adds of other parts.
    own |= dict.fromkeys(("shortlist_compute_admitted", "shortlist_items"), "gauge")
    own |= {"shortlist_rerank_arms_off": "gauge"}
    own |= {"shortlist_request_log_dropped_total": "counter"}
    own |= {"shortlist_traces_dropped_total": "counter"}
    own |= {"shortlist_workers": "gauge", "shortlist_worker_restarts_total": "counter"}
    own |= {"shortlist_generation": "gauge"}
    own |= {"shortlist_conversations_kept": "gauge", "shortlist_conversations_kept_bytes": "gauge"}
    of_the_catalog: tuple[str, ...] = (
        "revision",
        "store_age_seconds",
        "changed_items",
        "deleted_items",
    )
    of_the_catalog += ("tail_rows", "misfits", "pending_rows", "base_revision", "unembedded_texts")
    own |= dict.fromkeys((f"shortlist_catalog_{name}" for name in of_the_catalog), "gauge")
    own |= {"shortlist_compactions_total": "counter", "shortlist_compaction_seconds": "gauge"}
    page = (Path(__file__).parents[3] / "docs/metrics.md").read_text()
    assert dict(re.findall(r"^\| `(shortlist_\w+)` \| (\w+) \|", page, re.MULTILINE)) == own
