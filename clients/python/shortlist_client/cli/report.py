"""Answers as text: a table for people, JSON for machines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

from shortlist_client.cli.explanation import Answer, answered_lines, model_inputs_lines
from shortlist_client.cli.screen import BOLD, DIM, styled, terminal_width
from shortlist_client.cli.table import Column, printable, property_lines, table_lines, value_text
from shortlist_client.explanation import SourceReport, StageOutcome, StageReport
from shortlist_client.results import (
    ActiveBundle,
    AnswerInfo,
    BundleEntry,
    BundleId,
    BundleSwitch,
    CatalogStats,
    FieldInfo,
    ItemChanges,
    Ranking,
    ScoredItem,
    ServedItem,
)

# What people look for first comes first; the others follow by name.
_FIRST_ATTRIBUTES = ("title", "name")


def answer_report(answer: Answer) -> str:
    """Return an answer as a table, and below it how it came about."""
    header, *rows = table_lines(_columns(answer.items), width_max=terminal_width())
    lines = [styled(header, BOLD), *rows] if rows else ["no items"]
    lines.append("")
    if isinstance(answer, Ranking) and answer.unknown_item_ids:
        lines.append(f"unknown items: {_sample(answer.unknown_item_ids)}")
    lines += _notes(answer.info, item_count=len(answer.items))
    if answer.info.answered_query is not None:
        lines += answered_lines(answer.info.answered_query)
    lines += model_inputs_lines(answer)
    if answer.info.sources:
        lines.append(styled(_sources_line(answer.info.sources), DIM))
    lines.append(styled(_stages_line(answer.info.stages), DIM))
    lines.append(styled(_identity_line(answer.info), DIM))
    return "\n".join(lines)


def bundle_report(bundle: ActiveBundle) -> str:
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
        **{
            other.label: f"{identity(other.bundle.id)}, share {_percent(other.share)}"
            for other in bundle.others
        },
    }
    return "\n".join(property_lines(properties))


def bundles_report(entries: Sequence[BundleEntry]) -> str:
    """Return the bundles that there are, one a line, and under those that cannot be served why."""
    columns = [
        Column(
            title="bundle",
            cells=[entry.folder if entry.id is None else identity(entry.id) for entry in entries],
        ),
        Column(title="folder", cells=[entry.folder for entry in entries]),
        Column(
            title="built",
            cells=[
                entry.create_time.isoformat(" ", "seconds") if entry.create_time else "unknown"
                for entry in entries
            ],
        ),
        Column(title="active as", cells=[", ".join(entry.labels) for entry in entries]),
    ]
    header, *rows = table_lines(columns, width_max=terminal_width())
    problems = [f"{entry.folder}: {entry.problem}" for entry in entries if entry.problem]
    return "\n".join([styled(header, BOLD), *rows, *map(printable, problems)])


def switch_report(switch: BundleSwitch, label: str) -> str:
    """Return what a label went to, and from what."""
    if not switch.switched:
        return f"{label or 'stable'}: {identity(switch.bundle)}, as before"
    before = "none" if switch.previous is None else identity(switch.previous)
    return f"{label or 'stable'}: {identity(switch.bundle)}, was {before}"


def identity(bundle: BundleId) -> str:
    """Return the name and the version of a bundle."""
    return printable(f"{bundle.name} {bundle.version}")


def _changes(stats: CatalogStats) -> dict[str, str]:
    age = "unknown" if stats.store_age_ms is None else f"{stats.store_age_ms:.0f} ms ago"
    return {
        "revision": f"{stats.revision:,}, store read {age}",
        "changed": f"{stats.changed_item_count:,} written, {stats.deleted_item_count:,} deleted, "
        f"{stats.tail_row_count:,} rows beside the index",
        "misfits": f"{stats.misfit_count:,}",
        "texts not embedded yet": f"{stats.unembedded_text_count:,}",
    }


def stats_report(stats: CatalogStats) -> str:
    """Return the state of the catalogue, and how well searches by the share left to them did."""
    checked = sum(bucket.query_count for bucket in stats.recall)
    properties = {
        "items": f"{stats.item_count:,}",
        **(_changes(stats) if stats.live else {}),
        "searches checked": f"{checked:,}" if stats.recall else "none: the recall monitor is off",
        "checks dropped": f"{stats.recall_dropped_count:,}",
    }
    lines = property_lines(properties)
    if stats.recall:
        columns = [
            Column(
                title="catalogue left",
                cells=[
                    f"{_percent(bucket.selectivity_min)} to {_percent(bucket.selectivity_max)}"
                    for bucket in stats.recall
                ],
            ),
            Column(
                title="searches",
                cells=[f"{bucket.query_count:,}" for bucket in stats.recall],
                numeric=True,
            ),
            _number_column("recall", [bucket.recall for bucket in stats.recall]),
        ]
        header, *rows = table_lines(columns, width_max=terminal_width())
        lines += ["", styled(header, BOLD), *rows]
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{100 * share:g}%"


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
        *_rating_columns(items),
        _number_column("retrieval", [item.retrieval_score for item in items]),
        Column(title="source", cells=list(map(_sources_of, items))),
        *_reason_columns(items),
    ]


def _rating_columns(items: Sequence[ScoredItem]) -> list[Column]:
    if all(item.llm_rating is None for item in items):
        return []
    cells = [
        "" if item.llm_rating is None else f"{item.llm_rating:g}{'!' * item.llm_rating_clamped}"
        for item in items
    ]
    return [Column(title="llm", cells=cells, numeric=True)]


def _reason_columns(items: Sequence[ScoredItem]) -> list[Column]:
    if not any(item.rerank_reason for item in items):
        return []
    return [Column(title="why", cells=[printable(item.rerank_reason) for item in items])]


def _sources_of(item: ScoredItem) -> str:
    return ", ".join([item.source, *(other.source for other in item.other_sources)])


def _number_column(title: str, numbers: Sequence[float | None]) -> Column:
    cells = ["" if number is None else f"{number:.4f}" for number in numbers]
    return Column(title=title, cells=cells, numeric=True)


def _attribute_column(name: str, items: Sequence[ScoredItem]) -> Column:
    values = [item.attributes.get(name) for item in items]
    numeric = all(isinstance(value, int | float | None) for value in values)
    return Column(
        title=name,
        cells=["" if value is None else value_text(value) for value in values],
        numeric=numeric,
    )


def _ordered(names: Iterable[str]) -> list[str]:
    last = len(_FIRST_ATTRIBUTES)
    place = {name: position for position, name in enumerate(_FIRST_ATTRIBUTES)}
    return sorted(names, key=lambda name: (place.get(name, last), name))


def _notes(info: AnswerInfo, *, item_count: int) -> list[str]:
    notes = []
    if info.cold_start:
        basis = info.cold_start_basis
        known = "" if basis is None else f"; answered from {_words(basis)}"
        notes.append(f"cold start: the bundle does not know this user{known}")
    if info.match_count is not None:
        notes.append(f"items that the filters match: {info.match_count:,}")
    if info.shortfall_reason is not None:
        noun = "item" if item_count == 1 else "items"
        notes.append(f"only {item_count} {noun}: {_words(info.shortfall_reason)}")
    for left_out in info.degraded:
        what = f"{left_out.stage} of {left_out.source}" if left_out.source else left_out.stage
        why = f"{_words(left_out.reason)}: {left_out.message}"
        notes.append(printable(f"degraded: {what} left out, {why}"))
    if info.seed is not None:
        notes.append(f"seed of the draw: {info.seed}")
    for asked in (info.rerank, info.rating):
        if asked is None:
            continue
        tokens = asked.input_token_count + asked.output_token_count
        said = f"{asked.model}, prompt {asked.prompt}, {tokens:,} tokens, price {asked.price:g}"
        notes.append(printable(f"language model: {said}"))
    if info.rating is not None and info.rating.clamped_count:
        notes.append("!: the language model said a number outside of 1..5")
    for warning in info.warnings:
        more = warning.subject_count - len(warning.subjects)
        subjects = _sample(warning.subjects, more=more)
        notes.append(f"warning: {warning.field}: {printable(warning.message)} ({subjects})")
    return notes


def _words(name: StrEnum) -> str:
    return name.value.lower().replace("_", " ")


def _sample(names: Sequence[str], *, more: int = 0) -> str:
    shown = ", ".join(map(printable, names[:10]))
    hidden = len(names[10:]) + more
    return f"{shown} and {hidden} more" if hidden else shown


def _sources_line(sources: Sequence[SourceReport]) -> str:
    return "sources: " + " · ".join(map(_source, sources))


def _source(source: SourceReport) -> str:
    plan = f" ({printable(source.plan)})" if source.plan else ""
    name = printable(source.name)
    if source.outcome is StageOutcome.OK:
        return f"{name} {source.item_count} in {source.duration_ms:.2f}{plan}"
    return f"{name} {_words(source.outcome)}{plan}"


def _stages_line(stages: Sequence[StageReport]) -> str:
    total_ms = sum(stage.duration_ms for stage in stages)
    return " · ".join([*map(_stage, stages), f"total {total_ms:.2f} ms"])


def _stage(stage: StageReport) -> str:
    plan = f" ({printable(stage.plan)})" if stage.plan else ""
    if stage.outcome is StageOutcome.OK:
        return f"{stage.name} {stage.duration_ms:.2f}{plan}"
    return f"{stage.name} {_words(stage.outcome)}{plan}"


def _identity_line(info: AnswerInfo) -> str:
    bundle = info.bundle
    identity = f"{bundle.name} {bundle.version} ({bundle.sha256[:12]})"
    return printable(f"{identity} · request {info.request_id}")


def _fields(fields: Sequence[FieldInfo]) -> str:
    return ", ".join(f"{field.name} ({field.type.value.lower()})" for field in fields) or "none"


def item_report(item: ServedItem) -> str:
    """Return an item as it is served."""
    shown = {name: value_text(value) for name, value in item.attributes.items()}
    since = f"revision {item.revision:,}" if item.revision else "as the bundle has it"
    return "\n".join(property_lines({"id": item.id, **shown, "since": since}))


def changes_report(changes: ItemChanges) -> str:
    """Return what became of changes: a line, and one for each that was refused."""
    done = len(changes.outcomes) - len(changes.failures)
    lines = [f"{done:,} of {len(changes.outcomes):,} items, revision {changes.revision:,}"]
    lines += [f"{item_id}: {error}" for item_id, error in changes.failures.items()]
    return "\n".join(lines)
