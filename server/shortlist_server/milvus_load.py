"""`shortlist-server load-milvus`: writes the items of a bundle to Milvus, before it is served."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from shortlist_server.bundle.reader import Bundle, open_bundle
from shortlist_server.catalog.columns import attribute_column
from shortlist_server.config import load_config
from shortlist_server.errors import ConfigError, IndexUnavailable
from shortlist_server.index.milvus import Milvus
from shortlist_server.index.milvus_fields import MilvusRows
from shortlist_server.index.milvus_options import MilvusOptions

DESCRIPTION = "Write the items of a bundle to Milvus, where servers with a section `milvus` search."
EPILOG = """examples:
  shortlist-server load-milvus --bundle build/demo/bundle --config server.toml
  SHORTLIST_SERVER_MILVUS__URI=http://127.0.0.1:19530 shortlist-server load-milvus --bundle bundle

Items go to a new collection; the alias that servers search is moved to it when all of them are
there. A load that fails changes nothing that is searched, and may be repeated. See docs/milvus.md.

Exit codes: 0 the items are there, 1 they are not, 2 usage.
"""
PROGRESS_S = 5.0


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code.

    Raises:
        ShortlistError: what `cli.main` says for every command.
    """
    parsed = parser().parse_args(arguments)
    try:
        options = _options(parsed)
        begin = time.monotonic()
        bundle = open_bundle(parsed.bundle)
        milvus = Milvus(options)
        with contextlib.closing(milvus):
            name = load_items(milvus, options, bundle, replicas=parsed.replicas, told=_Progress())
            dropped = drop_others(milvus, options, bundle) if parsed.drop_others else []
    except IndexUnavailable as error:
        print(f"shortlist-server: milvus: {error.detail}", file=sys.stderr)
        return 1
    report = {
        "alias": options.alias(bundle.sha256),
        "collection": name,
        "item_count": len(bundle.item_ids),
        "dropped": dropped,
        "seconds": round(time.monotonic() - begin, 2),
    }
    if parsed.json:
        print(json.dumps(report, indent=1))
    else:
        print(
            f"{report['item_count']} items in {name}, searched under {report['alias']}, "
            f"after {report['seconds']} s"
        )
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = argparse.ArgumentParser(
        prog="shortlist-server load-milvus",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--bundle", type=Path, required=True, metavar="FOLDER", help="the bundle")
    made.add_argument(
        "--config", type=Path, metavar="FILE", help="a TOML file with the section `milvus`"
    )
    made.add_argument(
        "--replicas",
        type=int,
        default=1,
        metavar="N",
        help="copies in the memory of Milvus' query nodes (default 1)",
    )
    made.add_argument(
        "--drop-others",
        action="store_true",
        help="remove earlier collections of this bundle afterwards; not while another load runs",
    )
    made.add_argument("--json", action="store_true", help="print the report as JSON")
    return made


def _options(parsed: argparse.Namespace) -> MilvusOptions:
    if parsed.replicas < 1:
        raise ConfigError(f"--replicas: expected 1 or more, got {parsed.replicas}")
    config = load_config(parsed.config, {"bundle": parsed.bundle})
    if config.milvus is None:
        raise ConfigError(
            "milvus: expected a section of the configuration file, or "
            "SHORTLIST_SERVER_MILVUS__URI, got none"
        )
    return config.milvus.options()


class _Progress:
    """Says how far a load is, now and then."""

    def __init__(self) -> None:
        self._told_at = time.monotonic()

    def __call__(self, done: int, count: int) -> None:
        if time.monotonic() - self._told_at > PROGRESS_S:
            self._told_at = time.monotonic()
            print(f"{done} of {count} items", file=sys.stderr)


def load_items(
    milvus: Milvus,
    options: MilvusOptions,
    bundle: Bundle,
    *,
    replicas: int = 1,
    told: Callable[[int, int], None] = lambda done, count: None,
) -> str:
    """Write the items of a bundle to a new collection, and have its alias lead to it.

    Args:
        milvus: Where to.
        options: Where that is.
        bundle: The bundle, as exported.
        replicas: Copies in the memory of query nodes.
        told: Called with the number of items written, and that of all.

    Returns:
        Name of the collection.

    Raises:
        BundleUnsupported: the bundle has more attributes, or longer lists, than Milvus takes.
        IndexUnavailable: Milvus did not take them; what is searched is as it was.
    """
    columns = {name: attribute_column(column) for name, column in bundle.item_columns.items()}
    rows = MilvusRows(bundle.item_embeddings, bundle.manifest.metric, columns)
    alias, index = options.alias(bundle.sha256), bundle.manifest.index
    name = milvus.next_collection(alias)
    milvus.create(
        name,
        rows.fields,
        dimension=rows.dimension,
        m=index.m,
        ef_construction=index.ef_construction,
    )
    try:
        done = 0
        for batch in rows.batches():
            milvus.upsert(name, batch)
            done += len(batch)
            told(done, rows.count)
        milvus.make_searchable(name, replicas=replicas)
        if (count := milvus.item_count(name)) != rows.count:
            raise IndexUnavailable("FAILED", f"{name}: expected {rows.count} items, got {count}")
        milvus.publish(alias, name)
    except BaseException:
        with contextlib.suppress(IndexUnavailable):
            if milvus.served(alias) != name:
                milvus.drop(name)
        raise
    return name


def drop_others(milvus: Milvus, options: MilvusOptions, bundle: Bundle) -> list[str]:
    """Remove the collections of a bundle that its alias does not lead to; returns their names.

    Raises:
        IndexUnavailable: Milvus did not remove them all.
    """
    alias = options.alias(bundle.sha256)
    served = milvus.served(alias)
    others = [name for name in milvus.collections(alias) if name != served]
    for name in others:
        milvus.drop(name)
    return others
