"""The inside of an answer as text: what was asked in full, and what the models were fed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from shortlist_client.cli.screen import BOLD, styled, terminal_width
from shortlist_client.cli.table import Column, property_lines, table_lines, value_text
from shortlist_client.explanation import AnsweredQuery, Selection
from shortlist_client.options import PinnedItem, Rerank, Source
from shortlist_client.results import (
    Candidates,
    Ranking,
    Recommendations,
    ScoredItem,
    SimilarItems,
    StreamedRecommendations,
)
from shortlist_client.values import AttributeValue

Answer: TypeAlias = Recommendations | StreamedRecommendations | Candidates | Ranking | SimilarItems

_SHOWN_COUNT_MAX = 8
"""Of a list's values: an embedding has hundreds, and --json has them all."""


def answered_lines(query: AnsweredQuery) -> list[str]:
    """Return the query that was answered, one property a line, and an empty line."""
    properties = {
        "embedding": f"{query.embedding_source}: {_sample(query.embedding)}",
        **({"text": query.text} if query.text else {}),
        "features": _pairs(query.features),
        "history": _sample(query.history_item_ids),
        "filter": query.filter or "none",
        "excluded": f"{query.excluded_item_count:,} items",
        "limit": str(query.limit),
        "sources": ", ".join(map(_source, query.sources)) or "none",
        "weights": _pairs(query.output_weights),
        "selection": _selection(query.selection),
        **({} if query.rerank is None else {"rerank": _rerank(query.rerank)}),
        **({"ranker": query.ranker} if query.ranker else {}),
        "search": _search(query),
        "budget": f"{query.budget_ms:.1f} ms",
    }
    return [styled("the query that was answered", BOLD), *property_lines(properties), ""]


def model_inputs_lines(answer: Answer) -> list[str]:
    """Return what each model was fed, and an empty line after each; none where it is not told."""
    lines: list[str] = []
    for fed in answer.info.model_inputs:
        if fed.inputs:
            texts = {name: _sample(_values(value)) for name, value in fed.inputs.items()}
            heading = f"what {fed.model} was fed for the query"
            lines += [styled(heading, BOLD), *property_lines(texts), ""]
    names = sorted({name for item in answer.items for name in item.model_inputs})
    if names:
        header, *rows = table_lines(
            [
                Column(title="id", cells=[item.id for item in answer.items]),
                *(_input_column(name, answer.items) for name in names),
            ],
            width_max=terminal_width(),
        )
        lines += [styled("what the ranker was fed for each item", BOLD), header, *rows, ""]
    return lines


def _input_column(name: str, items: Sequence[ScoredItem]) -> Column:
    values = [item.model_inputs.get(name) for item in items]
    cells = ["" if value is None else _sample(_values(value)) for value in values]
    return Column(title=name, cells=cells)


def _values(value: AttributeValue) -> Sequence[str | int | float | bool]:
    return value if isinstance(value, tuple) else (value,)


def _sample(values: Sequence[str | int | float | bool]) -> str:
    shown = ", ".join(map(value_text, values[:_SHOWN_COUNT_MAX]))
    hidden = len(values) - _SHOWN_COUNT_MAX
    return f"{shown} and {hidden:,} more" if hidden > 0 else shown or "none"


def _pairs(values: Mapping[str, AttributeValue]) -> str:
    return ", ".join(f"{name}={value_text(value)}" for name, value in values.items()) or "none"


def _rerank(rerank: Rerank) -> str:
    parts = [f"the best {rerank.candidate_count}"]
    if rerank.subset:
        parts.append("or fewer")
    if rerank.reasons:
        parts.append("with reasons")
    if rerank.passes != 1:
        parts.append(f"{rerank.passes} passes")
    if rerank.timeout_s is not None:
        parts.append(f"at most {rerank.timeout_s:g} s")
    return ", ".join([*parts, f"seed {rerank.seed}"] if rerank.seed is not None else parts)


def _source(source: Source) -> str:
    name = source.name or type(source).__name__
    return name if source.candidate_count is None else f"{name} {source.candidate_count}"


def _selection(selection: Selection) -> str:
    parts = []
    if selection.score_min is not None:
        parts.append(f"score {selection.score_min:g} or more")
    if selection.diversity:
        parts.append(f"diversity {selection.diversity:g}")
    parts += [f"at most {cap.item_count_max} of a {cap.attribute}" for cap in selection.caps]
    if selection.pinned_items:
        parts.append("pinned " + " ".join(map(_pinned, selection.pinned_items)))
    if selection.temperature:
        seed = "" if selection.seed is None else f" with seed {selection.seed}"
        parts.append(f"temperature {selection.temperature:g}{seed}")
    return ", ".join(parts) or "the best"


def _pinned(pinned: PinnedItem) -> str:
    return pinned.item_id if pinned.position is None else f"{pinned.item_id}@{pinned.position}"


def _search(query: AnsweredQuery) -> str:
    if query.exact:
        return "exact"
    return "left to the server" if query.ef is None else f"ef={query.ef}"
