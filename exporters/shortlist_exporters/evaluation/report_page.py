"""An evaluation as one page of HTML that needs nothing beside it: tables, plots, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from shortlist_exporters.errors import ExportError
from shortlist_exporters.evaluation.plots import Point, difference_plot, line_plot
from shortlist_exporters.evaluation.stages import AMONG_ALL
from shortlist_exporters.evaluation.wording import (
    STAGES,
    Document,
    bundle_label,
    headline,
    interval,
    meaning,
    number,
    setting,
    title,
)

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1a1a1a; --faint: #6b6b6b; --rule: #ddd;
  --c0: #0b62c4; --c1: #b8480b; --c2: #1d7a3e; --c3: #8a3ea8; --c4: #a3005c; --c5: #6b6b00;
  --c6: #00717d; --c7: #6e5137; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #14161a; --ink: #e8e8e8; --faint: #a0a0a0; --rule: #3a3d44;
    --c0: #6fb1ff; --c1: #ffa066; --c2: #6fd08c; --c3: #d59bf0; --c4: #ff85bd; --c5: #cfcf5a;
    --c6: #5fd0de; --c7: #cdb094; } }
body { background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p.setting { color: var(--faint); margin: .2rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid var(--rule);
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
td.faint, small { color: var(--faint); }
svg { width: 100%; max-width: 44rem; height: auto; }
svg text { fill: var(--faint); font-size: 12px; }
.grid { stroke: var(--rule); } .guide { stroke: var(--faint); stroke-dasharray: 4 4; }
.line { fill: none; stroke-width: 2; } .band { opacity: .15; stroke: none; }
""" + "".join(
    f".line.c{n} {{ stroke: var(--c{n}); }} .dot.c{n}, .band.c{n}, svg text.name.c{n} "
    f"{{ fill: var(--c{n}); }}\n"
    for n in range(8)
)


def write_report(document: Document, path: Path) -> None:
    """Write the page.

    Raises:
        ExportError: it cannot be written there.
    """
    try:
        path.write_text(report_page(document), encoding="utf-8")
    except OSError as error:
        raise ExportError(f"--report {path}: cannot be written: {error.strerror}") from error


def report_page(document: Document) -> str:
    """Return the page as HTML."""
    label = bundle_label(document["bundle"])
    lines = "".join(f'<p class="setting">{escape(line)}</p>' for line in setting(document))
    sections = [
        _section("Beside the baselines", _main_table(document)),
        _section("How far down the list", _cutoff_plot(document)),
        _section("What each stage costs", _stages(document)),
        _section("Against another bundle", _comparison(document)),
        _section("Predicted and given ratings", _calibration(document)),
        _section("All figures", _all_figures(document)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Evaluation of {escape(label)}</title><style>{STYLE}</style></head><body>"
        f"<h1>Evaluation of {escape(label)}</h1>{lines}{''.join(sections)}</body></html>\n"
    )


def _section(heading: str, content: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>{content}</section>" if content else ""


def _main_table(document: Document) -> str:
    baselines = document["baselines"]
    rows = []
    for name in headline(document):
        figure = document["metrics"][name]
        others = [one["metrics"].get(name, {"value": None})["value"] for one in baselines.values()]
        rows.append([title(name), number(figure["value"]), interval(figure), *map(number, others)])
    described = "".join(
        f"<br>{escape(name)}: {escape(one['description'])}" for name, one in baselines.items()
    )
    note = f"<p><small>95 % intervals by the bootstrap over users.{described}</small></p>"
    return _table(["", "bundle", "95 %", *baselines], rows) + note


def _cutoff_plot(document: Document) -> str:
    if len(document["cutoffs"]) < 2:
        return ""
    series = {"bundle": _by_cutoff(document["metrics"], document["cutoffs"])}
    if document["comparison"] is not None:
        series["other bundle"] = _by_cutoff(document["comparison"]["metrics"], document["cutoffs"])
    for name, one in document["baselines"].items():
        series[name] = _by_cutoff(one["metrics"], document["cutoffs"])
    return line_plot(series, x_label="k", y_label="hit@k", logarithmic=True)


def _stages(document: Document) -> str:
    if not document["stages"]:
        return ""
    names = [*(f"hit_at_{k}" for k in document["cutoffs"]), AMONG_ALL]
    rows = [
        [
            words,
            *(number(document["stages"][stage].get(n, {"value": None})["value"]) for n in names),
        ]
        for stage, words in STAGES.items()
    ]
    series = {
        {"best_ranking": "perfect ranking"}.get(stage, stage): _by_cutoff(
            document["stages"][stage], document["cutoffs"]
        )
        for stage in STAGES
    }
    recall = document["metrics"]["index_recall"]["value"]
    note = (
        f"<p>The index (ef {document['index_ef']}) finds {number(recall)} of what exact retrieval "
        "finds.</p>"
    )
    plot = ""
    if len(document["cutoffs"]) > 1:
        plot = line_plot(series, x_label="k", y_label="hit@k", logarithmic=True)
    return _table(["", *map(title, names)], rows) + note + plot


def _comparison(document: Document) -> str:
    comparison = document["comparison"]
    if comparison is None:
        return ""
    rows, points = [], {}
    for name in headline(document):
        if (found := comparison["differences"].get(name)) is None:
            continue
        other = comparison["metrics"][name]["value"]
        cells = (number(document["metrics"][name]["value"]), number(other), number(found["value"]))
        rows.append([title(name), *cells, interval(found), number(found["p_value"])])
        if other:
            low, high = (
                None if found[bound] is None else found[bound] / abs(other)
                for bound in ("low", "high")
            )
            points[title(name)] = Point(x=found["value"] / abs(other), y=0.0, low=low, high=high)
    note = (
        f"<p>The other is {escape(bundle_label(comparison['bundle']))}. p: how often chance alone, "
        "users' results being swapped at random, makes a difference as large; of twenty figures "
        "that only chance moves, one has p below 0.05.</p>"
    )
    head = ["", "bundle", "other", "higher by", "95 %", "p"]
    return note + _table(head, rows) + difference_plot(points)


def _calibration(document: Document) -> str:
    points = [Point(x=one["predicted"], y=one["given"]) for one in document["calibration"]]
    if not points:
        return ""
    return line_plot(
        {"tenths": points},
        x_label="predicted rating, mean of a tenth of the pairs",
        y_label="given rating",
        diagonal=True,
    )


def _all_figures(document: Document) -> str:
    rows = [
        [title(name), number(figure["value"]), interval(figure), meaning(name)]
        for name, figure in document["metrics"].items()
    ]
    table = _table(["", "bundle", "95 %", "what it is"], rows)
    return f"<details><summary>{len(rows)} figures</summary>{table}</details>"


def _by_cutoff(metrics: Document, cutoffs: Sequence[int]) -> list[Point]:
    found = [(k, metrics.get(f"hit_at_{k}")) for k in cutoffs]
    return [
        Point(x=k, y=figure["value"], low=figure["low"], high=figure["high"])
        for k, figure in found
        if figure is not None and figure["value"] is not None
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table><tr>{cells}</tr>{body}</table></div>'
