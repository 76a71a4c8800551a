"""Answers as text: a table for people, JSON for machines."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TypeAlias

from shortlist_client.cli.table import Column, printable, table_lines
from shortlist_client.results import (
    AnswerInfo,
    BundleInfo,
    Candidates,
    FieldInfo,
    Ranking,
    Recommendations,
    ScoredItem,
    SimilarItems,
    StageOutcome,
    StageReport,
)
from shortlist_client.values import AttributeValue

Answer: TypeAlias = Recommendations | Candidates | Ranking | SimilarItems

# What people look for first comes first; the others follow by name.
_FIRST_ATTRIBUTES = ("title", "name")
_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


def json_report(result: Answer | BundleInfo) -> str:
    """Return a result as JSON, its fields named as in `shortlist_client.results`."""
    return json.dumps(asdict(result), indent=2, ensure_ascii=False, default=_json_value)


def answer_report(answer: Answer) -> str:
    """Return an answer as a table, and below it how it came about."""
    header, *rows = table_lines(_columns(answer.items), width_max=_terminal_width())
    lines = [_styled(header, _BOLD), *rows] if rows else ["no items"]
    lines.append("")
    if isinstance(answer, Ranking) and answer.unknown_item_ids:
        lines.append(f"unknown items: {_sample(answer.unknown_item_ids)}")
    lines += _notes(answer.info, item_count=len(answer.items))
    lines.append(_styled(_stages_line(answer.info.stages), _DIM))
    lines.append(_styled(_identity_line(answer.info), _DIM))
    return "\n".join(lines)


def bundle_report(bundle: BundleInfo) -> str:
    """Return the description of a bundle, one property a line."""
    built = bundle.create_time.isoformat(" ", "seconds") if bundle.create_time else "unknown"
    data = bundle.data_name or "unknown"
    libraries = (f"{name} {version}" for name, version in bundle.framework_versions.items())
    properties = {
        "bundle": f"{bundle.id.name} {bundle.id.version}",
        "sha256": bundle.id.sha256,
        "built": built,
        "data": f"{data} (simulated)" if bundle.data_simulated else data,
        "items": f"{bundle.item_count:,}",
        "users": f"{bundle.user_count:,}",
        "embeddings": f"{bundle.dimension} dimensions, {bundle.metric}",
        "features": _fields(bundle.features),
        "attributes": _fields(bundle.item_attributes),
        "outputs": ", ".join(bundle.ranker_outputs) or "none: no ranker",
        "built with": ", ".join(libraries) or "unknown",
    }
    room = max(map(len, properties))
    return "\n".join(
        f"{_styled(name.ljust(room), _BOLD)}  {printable(value)}"
        for name, value in properties.items()
    )


def _columns(items: Sequence[ScoredItem]) -> list[Column]:
    attribute_names = _ordered({name for item in items for name in item.attributes})
    output_names = sorted({name for item in items for name in item.outputs})
    return [
        Column(title="#", cells=[str(place) for place in range(1, len(items) + 1)], numeric=True),
        Column(title="id", cells=[item.id for item in items]),
        *(_attribute_column(name, items) for name in attribute_names),
        _number_column("score", [item.score for item in items]),
        *(
            _number_column(name, [item.outputs.get(name) for item in items])
            for name in output_names
        ),
        _number_column("retrieval", [item.retrieval_score for item in items]),
        Column(title="source", cells=[item.source for item in items]),
    ]


def _number_column(title: str, numbers: Sequence[float | None]) -> Column:
    cells = ["" if number is None else f"{number:.4f}" for number in numbers]
    return Column(title=title, cells=cells, numeric=True)


def _attribute_column(name: str, items: Sequence[ScoredItem]) -> Column:
    values = [item.attributes.get(name) for item in items]
    numeric = all(isinstance(value, int | float | None) for value in values)
    return Column(
        title=name,
        cells=["" if value is None else _attribute_text(value) for value in values],
        numeric=numeric,
    )


def _attribute_text(value: AttributeValue) -> str:
    if isinstance(value, tuple):
        return ", ".join(_attribute_text(part) for part in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _ordered(names: Iterable[str]) -> list[str]:
    last = len(_FIRST_ATTRIBUTES)
    place = {name: position for position, name in enumerate(_FIRST_ATTRIBUTES)}
    return sorted(names, key=lambda name: (place.get(name, last), name))


def _notes(info: AnswerInfo, *, item_count: int) -> list[str]:
    notes = []
    if info.cold_start:
        notes.append("cold start: the bundle does not know this user")
    if info.shortfall_reason is not None:
        why = info.shortfall_reason.value.lower().replace("_", " ")
        notes.append(f"only {item_count} items: {why}")
    for warning in info.warnings:
        more = warning.subject_count - len(warning.subjects)
        subjects = _sample(warning.subjects, more=more)
        notes.append(f"warning: {warning.field}: {printable(warning.message)} ({subjects})")
    return notes


def _sample(names: Sequence[str], *, more: int = 0) -> str:
    shown = ", ".join(map(printable, names[:10]))
    hidden = len(names[10:]) + more
    return f"{shown} and {hidden} more" if hidden else shown


def _stages_line(stages: Sequence[StageReport]) -> str:
    total_ms = sum(stage.duration_ms for stage in stages)
    return " · ".join([*map(_stage, stages), f"total {total_ms:.2f} ms"])


def _stage(stage: StageReport) -> str:
    plan = f" ({printable(stage.plan)})" if stage.plan else ""
    if stage.outcome is StageOutcome.OK:
        return f"{stage.name} {stage.duration_ms:.2f}{plan}"
    return f"{stage.name} {stage.outcome.value.lower()}{plan}"


def _identity_line(info: AnswerInfo) -> str:
    bundle = info.bundle
    identity = f"{bundle.name} {bundle.version} ({bundle.sha256[:12]})"
    return printable(f"{identity} · request {info.request_id}")


def _fields(fields: Sequence[FieldInfo]) -> str:
    return ", ".join(f"{field.name} ({field.type.value.lower()})" for field in fields) or "none"


def _json_value(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"no JSON for {type(value).__name__}")


def _terminal_width() -> int | None:
    """Return the columns of the terminal; None where the output goes elsewhere, uncut."""
    return shutil.get_terminal_size().columns if _is_terminal() else None


def _styled(text: str, style: str) -> str:
    if not _is_terminal() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"{style}{text}{_PLAIN}"


def _is_terminal() -> bool:
    # None where the caller closed it, as in `shortlist info >&-`.
    return sys.stdout is not None and sys.stdout.isatty()
