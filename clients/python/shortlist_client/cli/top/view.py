"""What a server does, for people and for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from shortlist_client.cli.screen import BOLD, DIM, styled
from shortlist_client.cli.table import Column, printable, table_lines
from shortlist_client.cli.top.activity import Activity, Rate


def activity_document(activity: Activity) -> str:
    """Return it as JSON, its fields named as in `Activity`."""
    return json.dumps(asdict(activity), indent=2, ensure_ascii=False)


def activity_lines(activity: Activity, *, width_max: int | None) -> list[str]:
    """Return it as lines for a terminal."""
    lines = [_state(activity), _load(activity), ""]
    lines += _table("method", activity.methods, width_max) or [styled("no calls", DIM)]
    if activity.stages:
        lines += ["", *_table("stage", activity.stages, width_max)]
    if activity.degraded:
        lines += ["", styled("answers did without", BOLD)]
        lines += [
            f"  {printable(what)}  {_number(per_s)}/s" for what, per_s in activity.degraded.items()
        ]
    if activity.catalog:
        lines.append("")
    for state in activity.catalog:
        age = "unknown" if state.store_age_s is None else f"{state.store_age_s:.1f} s ago"
        tail = "" if state.tail_rows is None else f", {state.tail_rows:,} rows beside the index"
        label = printable(state.label)
        lines.append(f"catalogue of {label}: revision {state.revision:,}, store read {age}{tail}")
    return lines


def _state(activity: Activity) -> str:
    parts = [printable(activity.bundle)]
    if activity.generation is not None:
        parts.append(f"generation {activity.generation:,}")
    if activity.workers is not None:
        restarts = activity.worker_restarts or 0
        died = f" ({restarts:,} restarted)" if restarts else ""
        parts.append(f"{activity.workers} workers{died}")
    if activity.items is not None:
        parts.append(f"{activity.items:,} items")
    if activity.memory_bytes is not None:
        parts.append(f"{activity.memory_bytes / 1e6:,.0f} MB")
    return " · ".join(parts)


def _load(activity: Activity) -> str:
    total = sum(rate.per_s for rate in activity.methods)
    failed = sum(rate.failed_per_s for rate in activity.methods)
    parts = [f"{_number(total)} calls/s"]
    if failed:
        parts.append(f"{100 * failed / total:.2g}% failed")
    parts.append(f"{activity.in_flight:,} in flight")
    if activity.queued is not None:
        parts.append(f"{activity.queued:,} queued")
    return " · ".join(parts)


def _table(title: str, rates: Sequence[Rate], width_max: int | None) -> list[str]:
    if not rates:
        return []
    columns = [
        Column(title=title, cells=[rate.name for rate in rates]),
        *(
            Column(title=name, cells=cells, numeric=True)
            for name, cells in (
                ("per s", [_number(rate.per_s) for rate in rates]),
                ("failed", [_number(rate.failed_per_s) for rate in rates]),
                ("p50 ms", [_time(rate.p50_ms) for rate in rates]),
                ("p99 ms", [_time(rate.p99_ms) for rate in rates]),
            )
        ),
    ]
    header, *rows = table_lines(columns, width_max=width_max)
    return [styled(header, BOLD), *rows]


def _number(value: float) -> str:
    return "0" if not value else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _time(value: float | None) -> str:
    return "" if value is None else f"{value:,.2f}"
