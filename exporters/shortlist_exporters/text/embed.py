"""Puts text embeddings into a bundle: texts -> embeddings -> index -> a new bundle."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from shortlist_server.bundle.manifest import TEXT_SOURCE, Manifest
from shortlist_server.bundle.reader import Bundle, open_bundle
from shortlist_server.bundle.writer import MANIFEST, BundleWriter

from shortlist_exporters.errors import SpecError
from shortlist_exporters.export import verify_bundle
from shortlist_exporters.progress import step
from shortlist_exporters.tables import text_columns
from shortlist_exporters.text.items import FOLDER, embed_items, kept_beside, write_texts
from shortlist_exporters.text.service import ServiceSettings


def embed_texts(
    source: Path,
    out: Path,
    *,
    attributes: Sequence[str],
    embedder: Path | ServiceSettings,
    texts: Path | None = None,
    version: str | None = None,
    replace: bool = False,
) -> Manifest:
    """Write a bundle with text embeddings beside what another has.

    Embeddings are kept in a hidden folder beside `out` as they are made: who begins again after a
    kill finds them there.

    Args:
        source: The bundle.
        out: The folder that will be the new one; may be `source`, with `replace`.
        attributes: Names of what an item's text is made of, in order: columns of `texts`, or item
            columns of type string or string_list.
        embedder: Folder of a local embedder, which goes into the bundle; or how a service is asked,
            which the bundle then names.
        texts: CSV with the column `id`, and others of texts; None where the bundle has them all.
        version: Version of the new bundle; that of the source and `-text` where None.
        replace: Whether a bundle at `out` gives way.

    Raises:
        DataError: the CSV cannot be used.
        SpecError: an attribute is nowhere, or of another type; or no item has a text; or a model of
            the bundle reads the texts that it has.
        BundleError: the bundle or the embedder cannot be used.
        ConfigError: the service cannot be asked like this.
        LanguageModelError: it does not answer; what it has embedded is kept.
        MissingExtra: what the embedder needs is not installed.
    """
    bundle = open_bundle(source)
    _check_models(bundle, source)
    with BundleWriter(out, replace=replace) as writer:
        kept = kept_beside(writer.out)
        made = embed_items(
            bundle.item_ids,
            text_columns(bundle.item_columns.values()),
            attributes=attributes,
            embedder=embedder,
            texts=texts,
            kept=kept,
            field="--text",
            types={name: column.type for name, column in bundle.item_columns.items()},
        )
        _copy(bundle, writer)
        manifest = bundle.manifest.model_dump(mode="json", exclude_none=True, exclude={"files"})
        manifest["version"] = version or f"{bundle.manifest.version}-text"
        now = datetime.now(UTC).replace(microsecond=0)
        manifest["created"] = now.isoformat().replace("+00:00", "Z")
        manifest["sections"]["texts"] = write_texts(writer, made, required=False)
        with step("verify the bundle"):
            written = writer.finish(manifest, verify=verify_bundle)
        shutil.rmtree(kept, ignore_errors=True)
        return written


def _check_models(bundle: Bundle, source: Path) -> None:
    for name, model in bundle.manifest.models.items():
        for tensor in model.inputs:
            if tensor.source == TEXT_SOURCE:
                raise SpecError(
                    f"{source}: expected models that read no texts, got an input {tensor.name!r} "
                    f"of {name}, which was trained on those of the bundle; train it on others"
                )


def _copy(bundle: Bundle, writer: BundleWriter) -> None:
    """Copy the files of a bundle, but for its manifest and what it has of texts."""
    sections = bundle.manifest.sections
    for name in bundle.manifest.files:
        if not ("texts" in sections and name.startswith(f"{FOLDER}/")) and name != MANIFEST:
            shutil.copyfile(bundle.path(name), writer.path(name))
