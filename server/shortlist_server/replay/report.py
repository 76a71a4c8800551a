"""The report of a replay, for people and for programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from shortlist_server.observability.machine import cpu_type, software
from shortlist_server.replay.comparison import Outcome
from shortlist_server.replay.replay import LABELS, LOG, Report, Versus
from shortlist_server.replay.runner import Replayer


def as_json(report: Report, log: str, replayers: Sequence[Replayer]) -> dict[str, Any]:
    """Return the report as JSON types; `docs/replay.md` lists the fields.

    Args:
        report: The report.
        log: Where the log is.
        replayers: The bundles, in the order of their labels.
    """
    return {
        "log": {
            "path": log,
            "request_count": report.request_count,
            "file_count": len(report.files),
            "first_time": _time(report.first_ns),
            "last_time": _time(report.last_ns),
            "bundles": [
                {"name": name, "version": version, "sha256": sha256, "request_count": count}
                for (name, version, sha256), count in report.bundles.most_common()
            ],
            "cpu": sorted(report.cpus),
            "software": sorted(report.software),
        },
        "machine": {
            "cpu": cpu_type(),
            "software": software(),
            "same_as_log": report.cpus == {cpu_type()} and report.software == {software()},
        },
        "bundles": [
            {
                "label": label,
                **_identity(replayer),
                "answered_in_log": _answered(report, replayer),
            }
            for label, replayer in zip(LABELS, replayers, strict=False)
        ],
        "comparisons": [_comparison(versus, report) for versus in report.comparisons],
        "masked_fields": dict(sorted(report.masked_fields.items())),
        "latency_ms": {name: _latency(spent) for name, spent in report.durations_ns.items()},
    }


def _identity(replayer: Replayer) -> dict[str, str]:
    bundle = replayer.generation.bundle
    manifest = bundle.manifest
    return {"name": manifest.name, "version": manifest.version, "sha256": bundle.sha256}


def _answered(report: Report, replayer: Replayer) -> int:
    """Return how many of the log's requests this bundle answered when they were logged."""
    sha256 = replayer.generation.bundle.sha256
    return sum(count for (_, _, logged), count in report.bundles.items() if logged == sha256)


def _comparison(versus: Versus, report: Report) -> dict[str, Any]:
    tally = versus.tally
    return {
        "bundle": versus.side,
        "against": versus.against,
        "request_count": report.request_count,
        **{outcome.value: tally.counts[outcome] for outcome in Outcome},
        "bit_identical": tally.bit_identical_count,
        "overlap_mean": tally.overlap_mean,
        "score_change_max": tally.score_change_max if tally.compared_count else None,
        "score_change_mean": tally.score_change_mean,
        "by_kind": {
            kind: {outcome.value: counts[outcome] for outcome in Outcome}
            for kind, counts in sorted(tally.by_kind.items())
        },
        "examples": [
            {
                "file": example.file,
                "position": example.position,
                "request_id": example.request_id,
                "kind": example.kind,
                "outcome": example.outcome.value,
                "overlap": example.overlap,
                "score_change_max": example.score_change_max,
                "error": example.error,
            }
            for example in versus.examples
        ],
    }


def _latency(spent_ns: Sequence[int]) -> dict[str, float] | None:
    if not len(spent_ns):
        return None
    p50, p99 = np.percentile(np.array(spent_ns, np.int64), [50, 99]) / 1e6
    return {"p50": float(p50), "p99": float(p99)}


def as_text(document: dict[str, Any]) -> str:
    """Return a report, as `as_json` gives it, as a table."""
    log, machine = document["log"], document["machine"]
    lines = [
        f"log  {log['request_count']} requests in {log['file_count']} files, {log['first_time']} "
        f"to {log['last_time']}",
        *(
            f"     {entry['request_count']} answered by {entry['name']} {entry['version']} "
            f"({entry['sha256'][:12]})"
            for entry in log["bundles"]
        ),
        *(
            f"{entry['label']}    {entry['name']} {entry['version']} ({entry['sha256'][:12]}), "
            f"answered {entry['answered_in_log']} of the log's requests"
            for entry in document["bundles"]
        ),
        "",
        *_table(document["comparisons"]),
        "",
        *_latencies(document["latency_ms"]),
    ]
    if document["masked_fields"]:
        fields = ", ".join(f"{name} ({n})" for name, n in document["masked_fields"].items())
        lines += ["", f"Not replayed, since the log does not have as sent: {fields}"]
    if not machine["same_as_log"]:
        lines += [
            "",
            "Scores may differ in their last bits: the log is of another CPU type or of other "
            "versions.",
            *(f"  then: {cpu}" for cpu in log["cpu"]),
            *(f"  then: {versions}" for versions in log["software"]),
            f"  now:  {machine['cpu']}",
            f"  now:  {machine['software']}",
        ]
    for comparison in document["comparisons"]:
        if comparison["examples"]:
            heading = f"{_title(comparison)}, the first that are not identical:"
            lines += ["", heading, *map(_example, comparison["examples"])]
    return "\n".join(lines)


def _table(comparisons: list[dict[str, Any]]) -> list[str]:
    rows: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
        ("requests", lambda one: one["request_count"]),
        *((outcome.value, _getter(outcome.value)) for outcome in Outcome),
        ("identical, bit by bit", lambda one: one["bit_identical"]),
        ("overlap, mean", lambda one: one["overlap_mean"]),
        ("score change, max", lambda one: one["score_change_max"]),
        ("score change, mean", lambda one: one["score_change_mean"]),
    ]
    return _aligned(
        ["", *map(_title, comparisons)],
        [[name, *(_figure(value(one)) for one in comparisons)] for name, value in rows],
    )


def _getter(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda one: one[name]


def _title(comparison: dict[str, Any]) -> str:
    against = "the log" if comparison["against"] == LOG else comparison["against"]
    return f"{comparison['bundle']} against {against}"


def _latencies(latency: dict[str, dict[str, float] | None]) -> list[str]:
    return _aligned(
        ["latency, ms", *latency],
        [
            [name, *("-" if one is None else f"{one[name]:.3f}" for one in latency.values())]
            for name in ("p50", "p99")
        ],
    )


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def _aligned(heading: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (heading, *rows)
    ]


def _example(example: dict[str, Any]) -> str:
    what = example["error"] or (
        f"overlap {example['overlap']:.3f}, score change {example['score_change_max']:.4g}"
    )
    name = example["request_id"] or "no request id"
    return (
        f"  {example['file']} row {example['position']}, {name}, {example['kind']}: "
        f"{example['outcome']}, {what}"
    )


def _time(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="seconds")
