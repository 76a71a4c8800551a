"""Loads bundles, whose folders come on standard input, and answers with those that load."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import sys
from pathlib import Path
from typing import Any, TextIO

from request_messages import EXISTS
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist_server.errors import BundleError, ShortlistError
from shortlist_server.generation import Generation, GenerationOptions, load_generation
from shortlist_server.labels import LabeledGenerations
from shortlist_server.rpc import respond
from shortlist_server.rpc.recommendation_service import RecommendationService
from shortlist_server.runtime.compute import ComputePool

ADDRESSES_MAX = 3 << 30
"""Address space, in bytes, of which Python, numpy and ONNX Runtime take less than 1 GiB."""

QUERIES = [
    types.Query(user=types.UserQuery(id="u1")),
    types.Query(user=types.UserQuery(id="nobody", history=[types.HistoryEvent(item_id="i3")])),
    types.Query(user=types.UserQuery()),
    types.Query(items=types.ItemsQuery(item_ids=["i1", "i2"])),
    types.Query(embedding=types.Embedding(values=[0.5] * 8)),
    types.Query(text="a heist in a dream"),
]
YEARS = types.RangeCondition(attribute="year", at_least=types.Value(int64_value=1990))
DRAMA = types.ContainsCondition(attribute="genres", value=types.Value(string_value="Drama"))
FILTERS = [
    EXISTS,
    types.Filter(none_of=types.FilterList(filters=[EXISTS])),
    types.Filter(contains=DRAMA),
    types.Filter(range=YEARS),
]


class Call:
    """What a method asks of its call."""

    def time_remaining(self) -> float:
        """Return the time that is left, in seconds."""
        return 20.0


def requests() -> list[tuple[str, Any]]:
    """Return what is asked of each bundle: by graph of several widths, exact, filtered, ranked."""
    asked: list[tuple[str, Any]] = []
    for number, query in enumerate(QUERIES):
        exact, held = types.RetrievalOptions(exact=True), FILTERS[number % len(FILTERS)]
        for ef in (1, 64, 4096):
            by_graph = types.RetrievalOptions(ef=ef, candidate_count=20)
            asked.append(("Recommend", pb.RecommendRequest(query=query, retrieval=by_graph)))
        asked += [
            ("Recommend", pb.RecommendRequest(query=query, retrieval=exact, attributes=["*"])),
            ("Recommend", pb.RecommendRequest(query=query, filter=held, explain=True, debug=True)),
            ("Retrieve", pb.RetrieveRequest(query=query, filter=held, attributes=["*"])),
            ("Rank", pb.RankRequest(query=query, item_ids=["i1", "i59", "i7"], explain=True)),
        ]
    selection = types.SelectionOptions(
        diversity=0.5, caps=[types.Cap(attribute="genres", item_count_max=2)]
    )
    sources = [
        types.SourceOptions(recent_history=types.HistorySource()),
        types.SourceOptions(popularity=types.PopularitySource()),
    ]
    asked += [
        ("Recommend", pb.RecommendRequest(query=QUERIES[0], selection=selection, sources=sources)),
        ("FindSimilarItems", pb.FindSimilarItemsRequest(item_id="i5")),
    ]
    return asked


REQUESTS = requests()


async def answers(generation: Generation, compute: ComputePool) -> dict[str, int]:
    """Ask for everything; returns how much was answered, and how much was refused by name."""
    known, manifest = set(generation.bundle.item_ids), generation.bundle.manifest
    identity = respond.bundle_id(manifest, generation.bundle.sha256)
    respond.bundle_info(manifest, generation.catalog, identity)
    service = RecommendationService(
        generations=LabeledGenerations(stable=generation).serving,
        compute=compute,
        default_timeout_s=20,
    )
    counts, call = {"answered": 0, "refused": 0}, Call()
    for method, request in REQUESTS:
        try:
            answer = await getattr(service, method)(request, call)
        except BundleError:
            raise
        except ShortlistError:
            counts["refused"] += 1
            continue
        counts["answered"] += 1
        items = [item.id for item in answer.items]
        assert set(items) <= known, f"{method}: items that there are not"
        assert len(set(items)) == len(items), f"{method}: an item twice"
    return counts


async def outcome(folder: Path) -> dict[str, Any]:
    """Return what became of one bundle."""
    try:
        # No catalogue is so small that it is only scanned: the graph is searched.
        generation = load_generation(folder, GenerationOptions(exact_items_max=0, exact_ms_max=0))
    except ShortlistError as error:
        return {"outcome": "refused", "error": type(error).__name__, "message": str(error)}
    compute = ComputePool(threads=0, waiting_max=64)
    try:
        return {"outcome": "loaded", **await answers(generation, compute)}
    except Exception as error:
        return {"outcome": "fault", "message": f"in an answer: {error!r}"}
    finally:
        compute.close()
        generation.close()


def memory_bytes_max() -> int:
    """Return the most memory that this program has had; what `getrusage` tells is its parent's,
    where that had more.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


async def main(out: TextIO) -> None:
    """Load one bundle for each line of standard input, and answer with one line each."""
    for line in sys.stdin:
        try:
            told = await outcome(Path(line.rstrip("\n")))
        except BaseException as error:
            told = {"outcome": "fault", "message": f"at load: {error!r}"}
        told["memory_bytes"] = memory_bytes_max()
        print(json.dumps(told), file=out, flush=True)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES_MAX, ADDRESSES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable()
    with os.fdopen(os.dup(1), "w") as out:
        # Whatever else libraries write there is no answer.
        os.dup2(2, 1)
        asyncio.run(main(out))
