"""A model card: what a bundle is, what it learned from, and how good it was found, in the bundle.

After Mitchell et al.: Model Cards for Model Reporting (FAT* 2019), as far as figures and manifest
know it; what the models are meant for, and for whom not, people have to add.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from shortlist_server.bundle.manifest import Manifest
from shortlist_server.bundle.reader import open_bundle
from shortlist_server.bundle.writer import MANIFEST, BundleWriter

from shortlist_exporters.evaluation.stages import AMONG_ALL
from shortlist_exporters.evaluation.wording import (
    STAGES,
    Document,
    headline,
    interval,
    meaning,
    number,
    setting,
    title,
)
from shortlist_exporters.export import verify_bundle
from shortlist_exporters.progress import step

CARD = "MODEL_CARD.md"
FIGURES = "evaluation.json"


def write_card(source: Path, out: Path, document: Document, *, replace: bool = False) -> Manifest:
    """Write a bundle that is another one with a model card and all figures in it.

    A bundle's files are under its hashes, so that a card makes a new bundle, of the version
    `...-card`; its models, items and index are the same.

    Args:
        source: The bundle that was evaluated.
        out: The folder that will be the new one; may be `source`, with `replace`.
        document: What `make_document` gave.
        replace: Whether a bundle at `out` gives way.

    Raises:
        BundleError: the bundle cannot be read, or there is something at `out`.
    """
    bundle = open_bundle(source)
    with BundleWriter(out, replace=replace) as writer:
        for name in bundle.manifest.files:
            if name not in (MANIFEST, CARD, FIGURES):
                writer.link(bundle.path(name), name)
        manifest = bundle.manifest.model_dump(mode="json", exclude_none=True, exclude={"files"})
        manifest["version"] = f"{bundle.manifest.version.removesuffix('-card')}-card"
        manifest["created"] = (
            datetime.now(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
        )
        writer.path(CARD).write_text(model_card(document, bundle.manifest), encoding="utf-8")
        writer.json(FIGURES, document)
        with step("verify the bundle"):
            return writer.finish(manifest, verify=verify_bundle)


def model_card(document: Document, manifest: Manifest) -> str:
    """Return the card as Markdown.

    Args:
        document: What `make_document` gave.
        manifest: Of the bundle that was evaluated.
    """
    parts = [
        f"# {manifest.name} {manifest.version}",
        _facts(manifest),
        "## Evaluation",
        "\n".join(f"- {_plain(line)}" for line in setting(document)),
        _figures(document),
        _stages(document),
        "## What this does not say",
        "- What the models are meant for, who is in the data and who is not: add it here.\n"
        "- Intervals are over users: another training, or other data, may differ by more.\n"
        "- What users did next was done on seeing other lists than these.\n"
        f"- All figures, and how they were measured, stand in `{FIGURES}` beside this file.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _facts(manifest: Manifest) -> str:
    kind = "simulated" if manifest.data.simulated else "observed"
    trained = ", ".join(f"{name} {found}" for name, found in manifest.framework_versions.items())
    made = f"Made {manifest.created:%Y-%m-%d %H:%M} UTC"
    lines = [
        f"Trained on {_plain(manifest.data.name)} ({kind} interactions); {manifest.item_count:,} "
        f"items, vectors of {manifest.dimension} components ({manifest.metric}).",
        f"{made} with {trained}." if trained else f"{made} of models that came as files.",
    ]
    for name, model in manifest.models.items():
        sources = ", ".join(sorted({f"`{tensor.source}`" for tensor in model.inputs}))
        outputs = ", ".join(f"`{output.name}`" for output in model.outputs)
        lines.append(f"- {name.replace('_', ' ')}: from {sources} to {outputs}")
    return "\n".join(lines[:2]) + "\n\n" + "\n".join(lines[2:])


def _figures(document: Document) -> str:
    baselines = document["baselines"]
    rows = [["", "bundle", "95 %", *baselines, "what it is"]]
    for name in headline(document):
        figure = document["metrics"][name]
        others = [one["metrics"].get(name, {"value": None})["value"] for one in baselines.values()]
        cells = [number(figure["value"]), interval(figure), *map(number, others)]
        rows.append([title(name), *cells, meaning(name)])
    return _table(rows)


def _stages(document: Document) -> str:
    if not document["stages"]:
        return ""
    names = [*(f"hit_at_{k}" for k in document["cutoffs"]), AMONG_ALL]
    rows = [["by stage", *map(title, names)]]
    for stage, words in STAGES.items():
        figures = document["stages"][stage]
        rows.append([words, *(number(figures.get(n, {"value": None})["value"]) for n in names)])
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = (f"| {' | '.join(map(_plain, row))} |" for row in rows)
    return "\n".join([head, f"|{' --- |' * len(rows[0])}", *body])


def _plain(text: str) -> str:
    """Return text that stands in one line, and in a cell of a table, as it is."""
    return " ".join(text.split()).replace("|", "\\|")
