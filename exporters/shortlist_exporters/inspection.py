"""What is in a bundle, for people and for programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from shortlist_server.bundle.manifest import Model
from shortlist_server.bundle.reader import Bundle, open_bundle


def describe(folder: Path) -> dict[str, Any]:
    """Return the figures of a bundle as JSON types; every hash is verified on the way.

    Raises:
        BundleError: it is not a whole bundle.
    """
    bundle = open_bundle(folder)
    manifest = bundle.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "sha256": bundle.sha256,
        "format_version": manifest.format_version,
        "created": manifest.created.isoformat(),
        "data": manifest.data.model_dump(),
        "framework_versions": manifest.framework_versions,
        "item_count": manifest.item_count,
        "user_count": 0 if bundle.users is None else len(bundle.users.ids),
        "dimension": manifest.dimension,
        "metric": manifest.metric,
        "index": manifest.index.model_dump(),
        "item_attributes": {column.name: column.type for column in manifest.items.columns},
        "features": {feature.name: feature.type for feature in manifest.features},
        "vocabularies": {name: len(tokens) for name, tokens in bundle.vocabularies.items()},
        "sections": sorted(manifest.sections),
        "texts": None if bundle.texts is None else _describe_texts(bundle),
        "models": {name: _describe_model(model) for name, model in manifest.models.items()},
        "golden_origin": None if manifest.golden is None else manifest.golden.origin,
        "file_count": len(manifest.files),
        "size_bytes": sum(file.size_bytes for file in manifest.files.values()),
    }


def _describe_texts(bundle: Bundle) -> dict[str, Any]:
    section, table = bundle.manifest.texts, bundle.texts
    assert section is not None
    assert table is not None
    return {
        "item_count": len(table.rows),
        "dimension": section.dimension,
        "attributes": list(section.attributes),
        "embedder": section.embedder.identity,
    }


def _describe_model(model: Model) -> dict[str, Any]:
    return {
        "inputs": {
            tensor.name: {
                "dtype": tensor.dtype,
                "shape": tensor.shape,
                "source": tensor.source,
                "transforms": [transform.kind for transform in tensor.transforms],
            }
            for tensor in model.inputs
        },
        "outputs": {
            tensor.name: {"dtype": tensor.dtype, "shape": tensor.shape} for tensor in model.outputs
        },
    }


def print_description(description: dict[str, Any]) -> None:
    """Print what `describe` returned, for people."""
    console = Console()
    data = description["data"]
    facts = Table(show_header=False, box=None)
    for name, value in (
        ("bundle", f"{description['name']} {description['version']}"),
        ("sha256", description["sha256"]),
        ("created", description["created"]),
        ("data", data["name"] + (" (simulated, not observed)" if data["simulated"] else "")),
        (
            "made with",
            ", ".join(
                f"{name} {version}" for name, version in description["framework_versions"].items()
            ),
        ),
        (
            "items",
            f"{description['item_count']}, {description['dimension']} dimensions, "
            f"{description['metric']}",
        ),
        ("users", str(description["user_count"])),
        (
            "index",
            ", ".join(
                f"{name} {value}" for name, value in description["index"].items() if name != "file"
            ),
        ),
        ("attributes", _typed(description["item_attributes"])),
        ("features", _typed(description["features"])),
        (
            "vocabularies",
            ", ".join(f"{name} ({count})" for name, count in description["vocabularies"].items()),
        ),
        ("sections", ", ".join(description["sections"])),
        ("texts", _text_facts(description["texts"])),
        (
            "golden",
            f"recorded by {description['golden_origin']}"
            if description["golden_origin"]
            else "none",
        ),
        ("files", f"{description['file_count']}, {description['size_bytes']:,} bytes"),
    ):
        facts.add_row(name, value)
    console.print(facts, highlight=False)
    for name, model in description["models"].items():
        table = Table("tensor", "dtype", "shape", "comes from", title=name, title_justify="left")
        for tensor, info in model["inputs"].items():
            steps = " -> ".join([info["source"], *info["transforms"]])
            table.add_row(tensor, info["dtype"], str(info["shape"]), steps)
        for tensor, info in model["outputs"].items():
            table.add_row(tensor, info["dtype"], str(info["shape"]), "(output)")
        console.print(table, highlight=False, markup=False)


def _text_facts(texts: dict[str, Any] | None) -> str:
    if texts is None:
        return "none"
    return (
        f"{texts['item_count']} items by {', '.join(texts['attributes'])}, {texts['dimension']} "
        f"dimensions, {texts['embedder']}"
    )


def _typed(fields: dict[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in fields.items())
