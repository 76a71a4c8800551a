"""How one search is done, and the choice between the ways by what they cost on this machine."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shortlist_server.funnel.allowed import Allowed, Selection
from shortlist_server.index.exact import ExactIndex
from shortlist_server.index.hnsw import HnswIndex

KERNEL_NS_MAX = 3_000_000
"""Longest single kernel call that is planned, in nanoseconds: a deadline is noticed between
calls.
"""
OVER_FETCH = 1.2
"""How many more items are fetched than the expected share of allowed ones calls for."""
PROBE_COUNT = 48
"""Neighbours looked at to learn how many of those near the query are allowed."""
ROUNDS = 7

GATHERED_ROWS_MAX = 65_536
"""Rows gathered to measure what gathering costs: at most a quarter of all, for that is about where
it begins to matter, and the fewer they are the more of them a cache holds.
"""

Kind = Literal["none", "exact", "exact_rows", "hnsw", "over_fetch", "filtered", "milvus"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlan:
    """How one search is done."""

    kind: Kind
    """`none`: nothing is allowed. `exact`: all items compared. `exact_rows`: the allowed ones.
    `hnsw`: as many more fetched as are excluded. `over_fetch`: as many more as the filter is
    expected to strike out. `filtered`: the graph search asks the filter. `milvus`: Milvus is asked,
    for `fetched` items in all.
    """
    ef: int = 0
    fetched: int = 0
    """Items asked of the graph, where more than wanted."""
    scanned: int = 0
    size: int = 0
    changed: int = 0
    """Rows beside the index, of items that have changed since it was built: all compared."""

    @property
    def approximate(self) -> bool:
        """Whether neighbours may be missed."""
        return self.kind not in ("none", "exact", "exact_rows")

    def __str__(self) -> str:
        beside = f" and {self.changed} changed" if self.changed else ""
        return self._of_index() + beside

    def _of_index(self) -> str:
        match self.kind:
            case "none":
                return f"none of {self.size} allowed"
            case "exact" | "exact_rows":
                return f"exact {self.scanned} of {self.size}"
            case "hnsw":
                return f"hnsw ef={self.ef}"
            case "over_fetch":
                return f"hnsw ef={self.ef}, over-fetch {self.fetched}"
            case "filtered":
                return f"hnsw ef={self.ef}, filtered"
            case "milvus":
                return f"milvus ef={self.ef}, fetched {self.fetched}"

    @classmethod
    def parse(cls, text: str) -> SearchPlan | None:
        """Return the plan that was written as this text; None where it is no plan.

        Rows beside the index are left out: there is one way to search them.
        """
        text = re.sub(r" and \d+ changed$", "", text)
        if found := re.fullmatch(r"none of (\d+) allowed", text):
            return cls(kind="none", size=int(found[1]))
        if found := re.fullmatch(r"exact (\d+) of (\d+)", text):
            scanned, size = int(found[1]), int(found[2])
            kind: Kind = "exact" if scanned == size else "exact_rows"
            return cls(kind=kind, scanned=scanned, size=size)
        if found := re.fullmatch(r"hnsw ef=(\d+)(, over-fetch (\d+)|, filtered)?", text):
            ef = int(found[1])
            if found[3]:
                return cls(kind="over_fetch", ef=ef, fetched=int(found[3]))
            return cls(kind="filtered" if found[2] else "hnsw", ef=ef)
        if found := re.fullmatch(r"milvus ef=(\d+), fetched (\d+)", text):
            return cls(kind="milvus", ef=int(found[1]), fetched=int(found[2]))
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCosts:
    """What the ways to search cost, in nanoseconds."""

    scan_ns: float
    """Comparing one item of a whole scan."""
    gather_ns: float
    """Copying and comparing one item of a scan of some."""
    scan_base_ns: float
    graph_ns: float
    """One unit of a graph search's width."""
    graph_base_ns: float
    visit_ns: float
    """One unit of the width of a graph search that asks a filter, at a share of 1."""

    def exact(self, allowed: Allowed) -> tuple[float, bool]:
        """Return the cost of an exact search, and whether it is to gather the allowed rows."""
        everything = self.scan_base_ns + self.scan_ns * allowed.size
        gathered = self.scan_base_ns + self.gather_ns * allowed.count
        return (gathered, True) if gathered < everything else (everything, False)

    def graph(self, width: int) -> float:
        """Return the cost of a graph search of this width."""
        return self.graph_base_ns + self.graph_ns * width

    def filtered(self, width: int, share: float) -> float:
        """Return the cost of a graph search that asks a filter which lets a share through."""
        return self.graph_base_ns + self.visit_ns * width / share


def measure(exact: ExactIndex, graph: HnswIndex, vectors: NDArray[np.float32]) -> SearchCosts:
    """Measure what searches cost here, in a few tens of milliseconds.

    They take turns, as requests do: a search that finds all its data in the cache, since it has
    just run, tells little. Of each the shortest run counts: other work on the machine only adds.
    """
    count = len(vectors)
    wanted = max(1, min(count // 4, GATHERED_ROWS_MAX))
    # At random: rows at even distances are fetched before they are asked for.
    some = Selection("", lambda: np.random.default_rng(0).permutation(count) < wanted)
    everything, few, k = Allowed(count), Allowed(count, some), min(100, wanted)
    narrow, wide = min(64, count), min(512, count)
    accepted = bytes(bytearray([1, 0] * (count // 2 + 1))[:count])
    searches: dict[str, Callable[[NDArray[np.float32]], object]] = {
        "all": lambda q: exact.search(q, k, allowed=everything, checkpoint=_go_on),
        "rows": lambda q: exact.search(q, k, allowed=few, checkpoint=_go_on, by_rows=True),
        "narrow": lambda q: graph.nearest(q, narrow, ef=narrow),
        "wide": lambda q: graph.nearest(q, wide, ef=wide),
        "filtered": lambda q: graph.nearest(q, min(8, narrow), ef=narrow, accepted=accepted),
    }
    spent_ns = dict.fromkeys(searches, math.inf)
    for query in vectors[:: max(1, count // ROUNDS)][:ROUNDS]:
        for name, search in searches.items():
            begin = time.perf_counter_ns()
            search(query)
            spent_ns[name] = min(spent_ns[name], time.perf_counter_ns() - begin)
    base = min(spent_ns["all"], spent_ns["rows"], 30_000.0)
    graph_ns = max(1.0, (spent_ns["wide"] - spent_ns["narrow"]) / max(1, wide - narrow))
    graph_base = max(0.0, spent_ns["narrow"] - graph_ns * narrow)
    return SearchCosts(
        scan_ns=max(0.1, (spent_ns["all"] - base) / count),
        gather_ns=max(0.1, (spent_ns["rows"] - base) / some.count),
        scan_base_ns=base,
        graph_ns=graph_ns,
        graph_base_ns=graph_base,
        visit_ns=max(graph_ns, (spent_ns["filtered"] - graph_base) / (2 * narrow)),
    )


def _go_on() -> None:
    """Let the work go on: measurements have no deadline."""
