"""Folds the changes of items into a bundle, stands back for those that serve, and ends.

    python -m shortlist_server.workers.compacting < ORDER

Reads what `compaction.py` wants from standard input, as JSON, and writes what came of it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from shortlist_server.errors import ConfigError, ShortlistError
from shortlist_server.observability.logs import set_up_logging
from shortlist_server.workers.process import end_with

logger = logging.getLogger(__name__)


def main() -> int:
    """Compact as told; returns the exit code."""
    order = json.load(sys.stdin)
    end_with(order["parent"])
    # Not `SCHED_IDLE` yet: a busy machine would let it stand still for seconds, also while it
    # holds a lock of the store, for which those who serve wait.
    os.setpriority(os.PRIO_PROCESS, 0, 19)
    set_up_logging(order["config"]["log_level"], order["config"]["log_format"])
    try:
        answer = _compact(order)
    except (ShortlistError, OSError) as error:
        answer = {"refused": str(error)}
    print(json.dumps(answer), flush=True)
    return 0


def _compact(order: dict[str, Any]) -> dict[str, Any]:
    # Here, not above: importing is a second of work, and it stands back, too.
    from shortlist_server.app import open_store
    from shortlist_server.bundle.reader import open_bundle
    from shortlist_server.catalog.catalog import BundleCatalog
    from shortlist_server.catalog.changes import ChangedItems
    from shortlist_server.catalog.compaction import write_compacted
    from shortlist_server.compacted_folders import CompactedFolders
    from shortlist_server.compacted_generation import newest_that_loads
    from shortlist_server.config import ServerConfig
    from shortlist_server.index.filters import FilterOptions
    from shortlist_server.language_models import embedding_service
    from shortlist_server.late_texts import embed_all
    from shortlist_server.live_texts import made_item_texts
    from shortlist_server.runtime.models import load_models
    from shortlist_server.text_index import text_points

    config = ServerConfig(**order["config"])
    assert config.catalog_store is not None
    assert config.state_dir is not None
    # Neither graph nor ranker's inputs nor funnel: nothing is searched here.
    bundle = newest_that_loads(
        config,
        Path(order["folder"]),
        lambda folder, compacted: open_bundle(folder, compacted=compacted),
    )
    catalog = BundleCatalog(bundle, FilterOptions(cache_bytes_max=0))
    texts = None
    if (section := bundle.manifest.texts) is not None:
        service = embedding_service(config)
        points, missing = text_points(bundle, section, remote=service, cache_count=1)
        if points is None:
            # Folded in without, they would stay without when what is missing is there.
            raise ConfigError(f"the texts of changed items cannot be folded in without {missing}")
        texts = made_item_texts(section, points, missing)
    models = load_models(bundle)
    items = ChangedItems(bundle, catalog, models, filter_cache_bytes=0, texts=texts)
    with closing(open_store(config.catalog_store, bundle.manifest.name)) as store:
        identity, tail = store.identity, store.changes_since(items.asks_from)
    # From here on, and the threads that build the graph.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    items.apply(tail.changes, tail.revision)
    if texts is not None and texts.embed is not None:
        embed_all(items, texts.embed)
    rows = items.state.pending_count
    if items.revision > bundle.revision:
        out = CompactedFolders(config.state_dir).folder(bundle.sha256, items.revision)
        write_compacted(bundle, items, identity, out)
    return {"revision": items.revision, "rows": rows}


if __name__ == "__main__":
    sys.exit(main())
