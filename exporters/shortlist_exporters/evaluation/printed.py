"""An evaluation in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from shortlist_exporters.evaluation.stages import AMONG_ALL
from shortlist_exporters.evaluation.wording import (
    STAGES,
    Document,
    bundle_label,
    headline,
    interval,
    number,
    setting,
    title,
)


def print_document(document: Document) -> None:
    """Print what a reader looks at first; `--json` has the rest."""
    print(f"{bundle_label(document['bundle'])}, {document['bundle']['reached']}")
    print(*setting(document), sep="\n")
    baselines = document["baselines"]
    rows = [["", "bundle", "95 %" if document["draw_count"] else "", *baselines]]
    for name in headline(document):
        figure = document["metrics"][name]
        others = [one["metrics"].get(name, {"value": None}) for one in baselines.values()]
        cells = [number(other["value"]) for other in others]
        rows.append([title(name), number(figure["value"]), interval(figure), *cells])
    _print_table(rows)
    if document["stages"]:
        _print_stages(document)
    if document["comparison"] is not None:
        _print_comparison(document)


def _print_stages(document: Document) -> None:
    names = [*(f"hit_at_{k}" for k in document["cutoffs"]), AMONG_ALL]
    rows = [["by stage", *map(title, names)]]
    for stage, words in STAGES.items():
        figures = document["stages"][stage]
        rows.append(
            [words, *(number(figures.get(name, {"value": None})["value"]) for name in names)]
        )
    _print_table(rows)
    recall = document["metrics"]["index_recall"]
    print(
        f"the index (ef {document['index_ef']}) finds {number(recall['value'])} of what exact "
        "retrieval finds"
    )


def _print_comparison(document: Document) -> None:
    comparison = document["comparison"]
    rows = [["against " + bundle_label(comparison["bundle"]), "other", "higher by", "95 %", "p"]]
    for name in headline(document):
        if name in comparison["differences"]:
            difference = comparison["differences"][name]
            other = comparison["metrics"][name]["value"]
            rows.append(
                [
                    title(name),
                    number(other),
                    number(difference["value"]),
                    interval(difference),
                    number(difference["p_value"]),
                ]
            )
    _print_table(rows)


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print()
    for row in rows:
        cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        print("  ".join([row[0].ljust(widths[0]), *cells]).rstrip())
