"""What a server did between two readings of its metrics."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from shortlist_client.cli.top.exposition import Sample
from shortlist_client.cli.top.readings import Reading

_BEGAN = "process_start_time_seconds"
"""With a label where there are workers, which may be replaced while the server runs."""
_NEVER_FALL = (
    "shortlist_requests_total",
    "shortlist_request_duration_seconds_bucket",
    "shortlist_stages_total",
    "shortlist_stage_duration_seconds_bucket",
    "shortlist_degraded_total",
)
"""While a server runs. Others begin anew with a bundle, or a worker."""

Key = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How often something happened, and how long it took."""

    name: str
    """Of the method or stage."""
    per_s: float
    failed_per_s: float
    """Of a method: with another status than OK. Of a stage: with another outcome, skipped ones
    not counted."""
    p50_ms: float | None
    """None where nothing was timed."""
    p99_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogState:
    """How far a bundle is with the changes of the catalogue."""

    label: str
    revision: int
    store_age_s: float | None
    """How long ago its store was read: how old what it answers from can be."""
    tail_rows: int | None
    """Rows beside the index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What a server did between two readings, and how it stood at the second."""

    interval_s: float
    methods: tuple[Rate, ...]
    """The busiest first."""
    stages: tuple[Rate, ...]
    degraded: Mapping[str, float]
    """Parts that answers did without, by `stage: reason`, a second."""
    in_flight: int
    queued: int | None
    """Calls in a compute thread or waiting for one. None where there are no such threads."""
    items: int | None
    bundle: str
    generation: int | None
    """None without workers, like the two below."""
    workers: int | None
    worker_restarts: int | None
    catalog: tuple[CatalogState, ...]
    """Empty where items cannot be changed."""
    memory_bytes: int | None
    """Resident, of all processes that show it."""


def restarted(before: Reading, after: Reading) -> bool:
    """Whether it is another process that answers now: it began later, or has counted less."""
    began = [_by_labels(reading.samples.get(_BEGAN, ())).get(()) for reading in (before, after)]
    if None not in began and began[0] != began[1]:
        return True
    for name in _NEVER_FALL:
        now = _by_labels(after.samples.get(name, ()))
        for key, value in _by_labels(before.samples.get(name, ())).items():
            if now.get(key, 0.0) < value:
                return True
    return False


def activity(before: Reading, after: Reading) -> Activity:
    """Return what happened between two readings, between which the server was not restarted."""
    seconds = after.time_s - before.time_s
    changes = _Changes(before, after, seconds)
    return Activity(
        interval_s=seconds,
        methods=changes.rates("requests", "request", by="method", status="code", fine=("OK",)),
        stages=changes.rates(
            "stages", "stage", by="stage", status="outcome", fine=("OK", "SKIPPED")
        ),
        degraded=changes.degraded(),
        in_flight=round(_sum(after, "shortlist_requests_in_flight") or 0),
        queued=_whole(after, "shortlist_compute_admitted"),
        items=_greatest(after, "shortlist_items"),
        bundle=_bundle(after),
        generation=_greatest(after, "shortlist_generation"),
        workers=_whole(after, "shortlist_workers"),
        worker_restarts=_whole(after, "shortlist_worker_restarts_total"),
        catalog=_catalog(after),
        memory_bytes=_whole(after, "process_resident_memory_bytes"),
    )


def quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """Return a quantile as Prometheus does: as if values were spread evenly in each bucket.

    Args:
        share: 0..1.
        buckets: How many values are at most each bound; the greatest bound is infinite.

    Returns:
        The greatest finite bound where it is beyond. None where there are no values.
    """
    bounds = sorted(buckets)
    if not bounds or (total := buckets[bounds[-1]]) <= 0:
        return None
    rank, lower, below = share * total, 0.0, 0.0
    for bound in bounds:
        if math.isinf(bound):
            return lower
        if buckets[bound] >= rank and buckets[bound] > below:
            return lower + (bound - lower) * (rank - below) / (buckets[bound] - below)
        lower, below = bound, buckets[bound]
    return lower


class _Changes:
    """The differences of two readings."""

    def __init__(self, before: Reading, after: Reading, seconds: float) -> None:
        self._before = before
        self._after = after
        self._seconds = seconds

    def rates(
        self, counter: str, timer: str, *, by: str, status: str, fine: Collection[str]
    ) -> tuple[Rate, ...]:
        counts: dict[str, float] = {}
        failures: dict[str, float] = {}
        for labels, change in self._of(f"shortlist_{counter}_total"):
            name = labels.get(by, "")
            counts[name] = counts.get(name, 0.0) + change
            if labels.get(status, "") not in fine:
                failures[name] = failures.get(name, 0.0) + change
        buckets: dict[str, dict[float, float]] = {}
        for labels, change in self._of(f"shortlist_{timer}_duration_seconds_bucket"):
            bound = float(labels.get("le", "inf"))
            of = buckets.setdefault(labels.get(by, ""), {})
            of[bound] = of.get(bound, 0.0) + change
        rates = [
            Rate(
                name=name,
                per_s=count / self._seconds,
                failed_per_s=failures.get(name, 0.0) / self._seconds,
                p50_ms=_ms(quantile(0.5, buckets.get(name, {}))),
                p99_ms=_ms(quantile(0.99, buckets.get(name, {}))),
            )
            for name, count in counts.items()
            if count
        ]
        if by == "method":
            rates.sort(key=lambda rate: (-rate.per_s, rate.name))
        return tuple(rates)

    def degraded(self) -> Mapping[str, float]:
        found: dict[str, float] = {}
        for labels, change in self._of("shortlist_degraded_total"):
            if change:
                what = f"{labels.get('stage', '')}: {labels.get('reason', '')}"
                found[what] = found.get(what, 0.0) + change / self._seconds
        return dict(sorted(found.items(), key=lambda pair: -pair[1]))

    def _of(self, name: str) -> Iterable[tuple[Mapping[str, str], float]]:
        before = _by_labels(self._before.samples.get(name, ()))
        for key, value in _by_labels(self._after.samples.get(name, ())).items():
            yield dict(key), value - before.get(key, 0.0)


def _by_labels(samples: Iterable[Sample]) -> dict[Key, float]:
    return {tuple(sorted(sample.labels.items())): sample.value for sample in samples}


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds


def _sum(reading: Reading, name: str) -> float | None:
    samples = reading.samples.get(name)
    return None if not samples else sum(sample.value for sample in samples)


def _whole(reading: Reading, name: str) -> int | None:
    total = _sum(reading, name)
    return None if total is None else round(total)


def _greatest(reading: Reading, name: str) -> int | None:
    # With workers, each shows its own: they differ while they go over to another bundle.
    samples = reading.samples.get(name)
    return None if not samples else round(max(sample.value for sample in samples))


def _bundle(reading: Reading) -> str:
    found = {
        f"{sample.labels.get('name', '')} {sample.labels.get('version', '')}"
        for sample in reading.samples.get("shortlist_bundle_info", ())
        if sample.value
    }
    return ", ".join(sorted(found)) or "unknown"


def _catalog(reading: Reading) -> tuple[CatalogState, ...]:
    def of(name: str, label: str) -> list[float]:
        return [
            sample.value
            for sample in reading.samples.get(f"shortlist_catalog_{name}", ())
            if sample.labels.get("label") == label and not math.isnan(sample.value)
        ]

    labels = [
        sample.labels.get("label", "")
        for sample in reading.samples.get("shortlist_catalog_revision", ())
    ]
    states = []
    for label in dict.fromkeys(labels):
        # With workers, the one that is behind.
        ages, tails = of("store_age_seconds", label), of("tail_rows", label)
        states.append(
            CatalogState(
                label=label,
                revision=round(min(of("revision", label), default=0)),
                store_age_s=max(ages, default=None),
                tail_rows=round(max(tails)) if tails else None,
            )
        )
    return tuple(states)
