"""Items in Milvus: the only importer of pymilvus, which is an extra.

It is imported with the first connection, not before: it brings pandas and pyarrow, which start
threads, and what has threads cannot be forked.

A bundle's items are in a collection that is filled once, and searched under an alias which names
the bundle: the alias comes, or moves, when all of them are there. So no search finds half of a
bundle, or another one's items.
"""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from shortlist_server.errors import IndexUnavailable, MissingExtra
from shortlist_server.index.milvus_expression import ROW
from shortlist_server.index.milvus_fields import VECTOR, MilvusField
from shortlist_server.index.milvus_options import MilvusOptions

logger = logging.getLogger(__name__)

T = TypeVar("T")

METRIC = "L2"
"""Of points: see `index.points`."""
LOAD_S = 600.0
"""Longest that a call may take which fills a collection, in seconds."""
FAILURES_MAX = 3
"""So many calls that fail in a row end in a rest: one that is slow by itself does not."""
CONNECT_FAILED = 2
CHANNEL = {
    # A Milvus that is back is found within a second or two; by default it may take two minutes, and
    # what other channels of the process have seen counts, too.
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.max_reconnect_backoff_ms": 1_000,
    "grpc.use_local_subchannel_pool": 1,
}
NO_SUCH_ALIAS = {100, 1600}
"""Codes of "collection not found" and "alias not found"."""


class Milvus:
    """One Milvus, asked by many threads at once. Connects with `connect`, or else with the first
    call: what has connected cannot be forked.
    """

    def __init__(
        self, options: MilvusOptions, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take where it is.

        Args:
            options: Where it is, and how it is asked.
            clock: Seconds, for the rest after failures.

        Raises:
            MissingExtra: the extra `milvus` is not installed.
        """
        if importlib.util.find_spec("pymilvus") is None:
            raise MissingExtra(feature="milvus", extra="milvus")
        self._options = options
        self._clock = clock
        self._connecting = Lock()
        self._client: Any = None
        self._failures = 0
        self._rests_until = 0.0

    def connect(self) -> None:
        """Connect, so that the first search need not; where that fails, the log tells."""
        try:
            self._connected(self._options.timeout_s)
        except Exception as error:
            logger.warning("milvus: not connected yet: %s", _unavailable(error).detail)

    # Searching.

    def nearest(
        self, alias: str, point: NDArray[np.float32], count: int, *, ef: int, expression: str = ""
    ) -> NDArray[np.int64]:
        """Return the rows of the items nearest to a point, nearest first, int64 [found].

        Args:
            alias: Where the items are.
            point: [dimension of points] float32.
            count: 1..16,384.
            ef: Search width; raised to `count`.
            expression: Which items may come back; empty: all.

        Raises:
            IndexUnavailable: Milvus does not answer in time, or not at all.
        """
        if self._failures >= FAILURES_MAX and self._clock() < self._rests_until:
            raise IndexUnavailable("FAILED", "it did not answer a moment ago, and is left alone")
        timeout_s = self._options.timeout_s
        # Until it is known how this one ends, it is the only one that asks.
        self._rests_until = self._clock() + self._options.rest_s
        try:
            hits = self._connected(timeout_s).search(
                alias,
                [point],
                anns_field=VECTOR,
                filter=expression,
                limit=count,
                output_fields=[ROW],
                search_params={"metric_type": METRIC, "params": {"ef": max(ef, count)}},
                timeout=timeout_s,
                retry_on_rate_limit=False,
            )[0]
        except IndexUnavailable:
            raise
        except Exception as error:
            if _is_away(error):
                self._failures += 1
                self._rests_until = self._clock() + self._options.rest_s
            raise _unavailable(error) from error
        self._failures = 0
        return np.fromiter((hit[ROW] for hit in hits), np.int64, len(hits))

    # What is there.

    def item_count(self, alias: str) -> int | None:
        """Return how many items there are under an alias, or in a collection; None where there is
        none of this name.

        Raises:
            IndexUnavailable: Milvus does not answer.
        """
        if not self._tell(lambda client: client.has_collection(alias, timeout=LOAD_S)):
            return None
        rows = self._tell(
            lambda client: client.query(
                alias,
                filter="",
                output_fields=["count(*)"],
                consistency_level="Strong",
                timeout=LOAD_S,
            )
        )
        return int(rows[0]["count(*)"])

    def collections(self, alias: str) -> list[str]:
        """Return the collections that were made for an alias, in the order they were made in."""
        names = self._tell(lambda client: client.list_collections(timeout=LOAD_S))
        numbered = [
            name
            for name in names
            if name.rpartition("_")[0] == alias and name.rpartition("_")[2].isdigit()
        ]
        return sorted(numbered, key=_number)

    def next_collection(self, alias: str) -> str:
        """Return a name for another collection of an alias, one that there is not."""
        made = self.collections(alias)
        return f"{alias}_{1 + (_number(made[-1]) if made else 0)}"

    def served(self, alias: str) -> str | None:
        """Return the collection that an alias leads to; None where there is no such alias."""
        try:
            told = self._connected(LOAD_S).describe_alias(alias, timeout=LOAD_S)
        except Exception as error:
            if _code(error) in NO_SUCH_ALIAS:
                return None
            raise _unavailable(error) from error
        return str(told["collection_name"])

    # Filling.

    def create(
        self,
        name: str,
        fields: Sequence[MilvusField],
        *,
        dimension: int,
        m: int,
        ef_construction: int,
    ) -> None:
        """Make a collection, empty.

        Args:
            name: What to call it.
            fields: Of the attributes.
            dimension: Number of components of a point.
            m: Links per item in the graph.
            ef_construction: Search width while it is built.

        Raises:
            IndexUnavailable: it cannot be made.
        """
        from pymilvus import DataType, MilvusClient

        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(ROW, DataType.INT64, is_primary=True)
        schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=dimension)
        for field in fields:
            schema.add_field(field.name, **_type(field))
        index = MilvusClient.prepare_index_params()
        index.add_index(
            VECTOR,
            index_type="HNSW",
            metric_type=METRIC,
            params={"M": m, "efConstruction": ef_construction},
        )
        self._tell(
            lambda client: client.create_collection(
                name, schema=schema, index_params=index, timeout=LOAD_S
            )
        )

    def upsert(self, name: str, entities: Sequence[Mapping[str, Any]]) -> None:
        """Write items, which replace those of their rows; may be called again where it is not known
        how it ended.

        Raises:
            IndexUnavailable: they were not all written.
        """
        self._tell(lambda client: client.upsert(name, list(entities), timeout=LOAD_S))

    def delete(self, name: str, rows: Sequence[int]) -> None:
        """Delete the items of some rows; those that are not there are none.

        Raises:
            IndexUnavailable: they were not all deleted.
        """
        self._tell(lambda client: client.delete(name, ids=list(rows), timeout=LOAD_S))

    def make_searchable(self, name: str, *, replicas: int = 1) -> None:
        """Seal a collection, and wait until it is indexed and in memory.

        Raises:
            IndexUnavailable: it is not.
        """
        self._tell(lambda client: client.flush(name, timeout=LOAD_S))
        self._tell(
            lambda client: client.load_collection(name, replica_number=replicas, timeout=LOAD_S)
        )

    def publish(self, alias: str, name: str) -> None:
        """Have an alias lead to a collection from now on, in one step.

        Raises:
            IndexUnavailable: it does not.
        """
        if self.served(alias) is None:
            self._tell(lambda client: client.create_alias(name, alias, timeout=LOAD_S))
        else:
            self._tell(lambda client: client.alter_alias(name, alias, timeout=LOAD_S))

    def drop(self, name: str) -> None:
        """Remove a collection, to which no alias leads.

        Raises:
            IndexUnavailable: it is still there.
        """
        self._tell(lambda client: client.drop_collection(name, timeout=LOAD_S))

    def close(self) -> None:
        """Close the connection, if there is one."""
        with self._connecting:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _tell(self, call: Callable[[Any], T]) -> T:
        try:
            return call(self._connected(LOAD_S))
        except IndexUnavailable:
            raise
        except Exception as error:
            raise _unavailable(error) from error

    def _connected(self, timeout_s: float) -> Any:
        if self._client is not None:
            return self._client
        # Whoever else waits here for a connection, waits no longer than for an answer.
        if not self._connecting.acquire(timeout=timeout_s):
            raise IndexUnavailable("OUT_OF_TIME", "no connection in time")
        try:
            if self._client is None:
                from pymilvus import MilvusClient

                # It logs each failure with a traceback, of which the caller is told.
                logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
                self._client = MilvusClient(
                    uri=self._options.uri,
                    token=self._options.token,
                    db_name=self._options.database,
                    timeout=min(timeout_s, 10.0),
                    dedicated=True,
                    grpc_options=CHANNEL,
                )
            return self._client
        finally:
            self._connecting.release()


def _number(collection: str) -> int:
    return int(collection.rpartition("_")[2])


def _type(field: MilvusField) -> dict[str, Any]:
    from pymilvus import DataType

    types = {"int64": DataType.INT64, "double": DataType.DOUBLE, "bool": DataType.BOOL}
    told: dict[str, Any] = {"nullable": field.nullable, "description": field.attribute[:255]}
    if field.capacity:
        element = {"element_type": types[field.kind], "max_capacity": field.capacity}
        return {"datatype": DataType.ARRAY} | element | told
    return {"datatype": types[field.kind]} | told


def _is_away(error: Exception) -> bool:
    """Whether nobody answered, in place of an answer that says no."""
    return not isinstance(_code(error), int) or _code(error) == CONNECT_FAILED


def _code(error: Exception) -> Any:
    # A MilvusException has a number as its code, or what gRPC said; an error of gRPC tells it when
    # it is called.
    code = getattr(error, "code", None)
    return code() if callable(code) else code


def _unavailable(error: Exception) -> IndexUnavailable:
    if isinstance(error, IndexUnavailable):
        return error
    late = getattr(_code(error), "name", "") == "DEADLINE_EXCEEDED"
    detail = f"{type(error).__name__}: {str(error)[:500]}"
    return IndexUnavailable("OUT_OF_TIME" if late else "FAILED", detail)
