"""Asks, in a process of its own, whether a bundle's items are in Milvus.

    python -m shortlist_server.index.milvus_check < QUESTION > ANSWER

Bundles are loaded where workers are forked from, which must not have connected to anything.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import asdict

from shortlist_server.errors import BundleCorrupt, BundleMissing, IndexUnavailable
from shortlist_server.index.milvus import Milvus
from shortlist_server.index.milvus_options import MilvusOptions

logger = logging.getLogger(__name__)

CHECK_S = 30.0


def check_loaded(options: MilvusOptions, sha256: str, item_count: int) -> None:
    """Check that Milvus has the items of a bundle. Where it does not answer, that is logged: a
    server that starts then answers from its other sources until Milvus is back.

    Args:
        options: Where Milvus is.
        sha256: The bundle's.
        item_count: How many items it has.

    Raises:
        BundleMissing: its items are not there.
        BundleCorrupt: others are there, or not all.
    """
    alias = options.alias(sha256)
    try:
        count, problem = _count_apart(options, alias)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        count, problem = None, repr(error)
    if problem is not None:
        logger.warning("milvus: cannot be asked for %s now: %s", alias, problem)
    elif count is None:
        raise BundleMissing(
            f"milvus: expected {item_count} items under the alias {alias}, got none; run "
            "`shortlist-server load-milvus` with this bundle first"
        )
    elif count != item_count:
        raise BundleCorrupt(
            f"milvus: expected {item_count} items under the alias {alias}, got {count}; run "
            "`shortlist-server load-milvus` with this bundle again"
        )


def _count_apart(options: MilvusOptions, alias: str) -> tuple[int | None, str | None]:
    """Return how many items there are, None where there is no such alias; and why nobody knows."""
    ended = subprocess.run(
        [sys.executable, "-m", "shortlist_server.index.milvus_check"],
        # Not as an argument: there is a secret in it.
        input=json.dumps({"options": asdict(options), "alias": alias}),
        capture_output=True,
        text=True,
        timeout=CHECK_S,
        check=False,
    )
    if ended.returncode:
        return None, ended.stderr.strip()[-500:] or f"exit code {ended.returncode}"
    answer = json.loads(ended.stdout)
    return answer["count"], answer["problem"]


def main() -> None:
    """Answer the question on standard input."""
    question = json.load(sys.stdin)
    milvus = Milvus(MilvusOptions(**question["options"]))
    count, problem = None, None
    try:
        count = milvus.item_count(question["alias"])
    except IndexUnavailable as error:
        problem = error.detail
    print(json.dumps({"count": count, "problem": problem}))


if __name__ == "__main__":
    main()
