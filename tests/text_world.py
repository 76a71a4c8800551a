"""The tiny world with texts: most of its films have a plot of a few words."""

from __future__ import annotations

import csv
import json
import random
import shutil
from pathlib import Path
from typing import Any

import tiny_embedder
import tiny_world
from llm_stub import LlmStub
from shortlist_exporters.export import export_bundle
from shortlist_exporters.text.embed import embed_texts
from shortlist_exporters.text.service import ServiceSettings
from shortlist_server.llm.provider import EmbedderOptions

WITHOUT_TEXT = {f"i{row}" for row in range(0, tiny_world.ITEM_COUNT, 6)}
ATTRIBUTES = ["plot"]


def plots() -> dict[str, str]:
    """Return the plot of each film that has one."""
    draw = random.Random(11)
    return {
        f"i{row}": " ".join(draw.choices(tiny_embedder.WORDS, k=draw.randint(2, 9)))
        for row in range(tiny_world.ITEM_COUNT)
        if f"i{row}" not in WITHOUT_TEXT
    }


def write_plots(file: Path) -> Path:
    """Write the plots as CSV; returns the file."""
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow(["id", "plot"])
        writer.writerows(plots().items())
    return file


def write_bundle(folder: Path, **changes: Any) -> Path:
    """Write the bundle; returns its folder.

    Args:
        folder: Where to write; made if missing.
        changes: Fields of the export spec to replace.
    """
    spec = tiny_world.write_spec(folder / "spec", **changes)
    export_bundle(spec, folder / "plain", version="1")
    embed_texts(
        folder / "plain",
        folder / "bundle",
        attributes=ATTRIBUTES,
        embedder=tiny_embedder.write_embedder(folder),
        texts=write_plots(folder / "plots.csv"),
        version="1",
    )
    return folder / "bundle"


def service_section(stub: LlmStub, provider: str, **changes: Any) -> dict[str, Any]:
    """Return the section `text_embedder` of a server that asks a stub."""
    url = stub.gemini_url if provider == "gemini" else stub.openai_url
    section = {"provider": provider, "model": "e-1", "dimension": 16, "base_url": url}
    return section | changes


def write_service_bundle(folder: Path, stub: LlmStub, provider: str) -> Path:
    """Write the bundle, its texts embedded by a stub of a service; returns its folder."""
    spec = tiny_world.write_spec(folder / "spec")
    export_bundle(spec, folder / "plain", version="1")
    section = service_section(stub, provider)
    del section["provider"]
    embed_texts(
        folder / "plain",
        folder / "bundle",
        attributes=ATTRIBUTES,
        embedder=ServiceSettings(provider=provider, options=EmbedderOptions(**section)),
        texts=write_plots(folder / "plots.csv"),
        version="1",
    )
    return folder / "bundle"


def of_service(bundle: Path, folder: Path, identity: str) -> Path:
    """Write a bundle as if a service had embedded its items; returns its folder."""
    shutil.copytree(bundle, folder)
    shutil.rmtree(folder / "texts/embedder")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sections"]["texts"]["embedder"] = {"identity": identity}
    manifest["files"] = {
        name: file
        for name, file in manifest["files"].items()
        if not name.startswith("texts/embedder/")
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
