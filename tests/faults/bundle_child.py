"""Loads bundles, whose folders come on standard input, and answers with those that load."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from shortlist_server.app import Generation, GenerationOptions, load_generation
from shortlist_server.errors import ShortlistError
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.options import Options
from shortlist_server.funnel.types import Query, User

MEMORY_BYTES_MAX = 6 << 30


def answers(generation: Generation) -> None:
    """Ask in several ways; what is refused by name is an answer too."""
    for user in ("u1", "u3", "nobody"):
        for ef in (None, 5, 64):
            options = Options(limit=5, candidate_count=10, ef=ef)
            try:
                answer = generation.funnel.recommend(
                    Query(subject=User(id=user)), options, Budget(20)
                )
            except ShortlistError:
                continue
            for row in answer.items.rows.tolist():
                assert 0 <= row < generation.catalog.size
                generation.catalog.item_id(row)


def outcome(folder: Path) -> str:
    """Return what became of one bundle, in one line."""
    try:
        generation = load_generation(folder, GenerationOptions(exact_items_max=0))
    except ShortlistError as error:
        return f"refused {type(error).__name__}: {error}"
    try:
        answers(generation)
        generation.close()
    except BaseException as error:
        return f"fault in an answer: {error!r}"
    return "loaded"


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    for line in sys.stdin:
        try:
            told = outcome(Path(line.strip()))
        except BaseException as error:
            told = f"fault at load: {error!r}"
        # ONNX Runtime writes to standard output, too.
        print(f"outcome: {told}".replace("\n", " "), flush=True)
