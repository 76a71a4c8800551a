"""CatalogService: the items, how well they are searched, and changes of them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import numpy as np
from google.protobuf.message import Message
from shortlist.v1 import catalog_pb2 as pb
from shortlist.v1 import catalog_pb2_grpc

from shortlist_server.bundle_label import BundleLabel
from shortlist_server.catalog.changes import CatalogState
from shortlist_server.catalog.item_schema import FittedItem, ItemSchema
from shortlist_server.catalog.item_state import ItemState
from shortlist_server.catalog.store import (
    Append,
    AppendResult,
    CatalogStore,
    IdempotencyKey,
    ItemChange,
)
from shortlist_server.errors import (
    CatalogReadOnly,
    InvalidValue,
    ItemNotFound,
    LabelNotLoaded,
    ShortlistError,
    UnknownAttribute,
)
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.resolve import shown
from shortlist_server.index.recall import RecallMonitor
from shortlist_server.observability.current_call import current_request_id
from shortlist_server.rpc import check_catalog
from shortlist_server.rpc.convert import values
from shortlist_server.rpc.respond import set_value
from shortlist_server.rpc.row_error import fill_row_error
from shortlist_server.rpc.snapshot import Serving, Snapshot, snapshot_of

MISFITS_MAX = 100
"""How many items that do not fit are named."""
Context = grpc.aio.ServicerContext[Any, Any]


class Changing(Serving, Protocol):
    """Items that change."""

    @property
    def schema(self) -> ItemSchema:
        """What the bundle makes of items."""

    @property
    def state(self) -> CatalogState:
        """How far the items are from the bundle's."""

    @property
    def store_age_s(self) -> float:
        """Time since the store was last read without a fault, in seconds."""

    def nudge(self) -> None:
        """Have the store read at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabeledCatalog:
    """The catalogue as the bundle of one label has it."""

    serving: Serving
    """What is answered from."""
    changing: Changing | None
    """The same where items can be changed."""
    monitor: RecallMonitor | None
    """Measures recall; None where it is off."""


class CatalogService(catalog_pb2_grpc.CatalogServiceServicer):
    """Describes the catalogue, and changes it: as the stable bundle has it, unless a request names
    another label.
    """

    def __init__(
        self,
        *,
        catalogs: Mapping[BundleLabel, LabeledCatalog],
        store: CatalogStore | None,
        default_timeout_s: float,
    ) -> None:
        """Take the parts.

        Args:
            catalogs: By label; there is a stable one.
            store: Where changes are kept; None where they cannot be made.
            default_timeout_s: Budget of calls without a deadline.
        """
        self._catalogs = catalogs
        self._stable = catalogs[BundleLabel.STABLE]
        self._store = store
        self._default_timeout_s = default_timeout_s
        # One thread: a call of a thousand items must not keep the requests of others waiting.
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="upsert")

    async def UpsertItems(
        self, request: pb.UpsertItemsRequest, context: Context
    ) -> pb.UpsertItemsResponse:
        """Write items."""
        check_catalog.upsert_items_request(request)
        changing, _ = self._writable()
        response, changes = await asyncio.get_running_loop().run_in_executor(
            self._threads,
            _prepared,
            request,
            changing.schema,
            self._stable.serving.snapshot,
            current_request_id.get(),
        )
        await self._append(request, request.idempotency_key, changes, response)
        return response

    async def DeleteItems(
        self, request: pb.DeleteItemsRequest, context: Context
    ) -> pb.DeleteItemsResponse:
        """Take items away."""
        check_catalog.delete_items_request(request)
        self._writable()
        catalog = self._stable.serving.snapshot.catalog
        response = pb.DeleteItemsResponse()
        for item_id in request.item_ids:
            response.outcomes.add(item_id=item_id, existed=catalog.row(item_id) is not None)
        changes = [ItemChange(item_id=item_id, deleted=True) for item_id in request.item_ids]
        await self._append(request, request.idempotency_key, changes, response)
        return response

    async def GetItem(self, request: pb.GetItemRequest, context: Context) -> pb.GetItemResponse:
        """Return an item as it is served now."""
        check_catalog.get_item_request(request)
        remaining = context.time_remaining()
        budget = Budget(self._default_timeout_s if remaining is None else remaining)
        serving = self._of(request.bundle_label).serving
        at = await snapshot_of(serving, request.min_revision, budget)
        row = at.catalog.row(request.item_id)
        if row is None:
            raise ItemNotFound("item_id", got=request.item_id)
        response = pb.GetItemResponse(
            revision=at.catalog.revision_of(row), catalog_revision=at.revision, bundle=at.identity
        )
        response.item.id = request.item_id
        for name in at.catalog.attribute_names:
            if (cell := at.catalog.attribute(name, row)) is not None:
                set_value(response.item.attributes[name], cell)
        if request.with_vector:
            response.item.vector.values.extend(at.embeddings[np.array([row])][0].tolist())
        return response

    async def GetCatalogStats(
        self, request: pb.GetCatalogStatsRequest, context: Context
    ) -> pb.GetCatalogStatsResponse:
        """Tell how large the catalogue is, how far it is from the bundle, and how well it is
        searched.
        """
        asked = self._of(request.bundle_label)
        at = asked.serving.snapshot
        response = pb.GetCatalogStatsResponse(item_count=at.catalog.size, revision=at.revision)
        if asked.changing is not None:
            _fill_state(asked.changing, response)
        if asked.monitor is not None:
            snapshot = asked.monitor.snapshot()
            response.recall_dropped_count = snapshot.dropped_count
            for bucket in snapshot.buckets:
                response.recall.add(
                    selectivity_min=bucket.selectivity_min,
                    selectivity_max=bucket.selectivity_max,
                    query_count=bucket.query_count,
                    recall=bucket.recall,
                )
        return response

    def _of(self, label: str) -> LabeledCatalog:
        """Return the catalogue of a label; empty is the stable one.

        Raises:
            InvalidValue: there is no such label.
            LabelNotLoaded: no bundle has this label now.
        """
        if label not in ("", *BundleLabel):
            raise InvalidValue(
                "bundle_label", expected="stable, canary, shadow, or empty for stable", got=label
            )
        found = self._catalogs.get(BundleLabel(label or BundleLabel.STABLE))
        if found is None:
            raise LabelNotLoaded("bundle_label", expected=shown(list(self._catalogs)), got=label)
        return found

    def _writable(self) -> tuple[Changing, CatalogStore]:
        if self._stable.changing is None or self._store is None:
            raise CatalogReadOnly
        return self._stable.changing, self._store

    async def _append(
        self,
        request: Message,
        key: str,
        changes: Sequence[ItemChange],
        response: pb.UpsertItemsResponse | pb.DeleteItemsResponse,
    ) -> None:
        """Make changes durable, and complete the response to them, or put that of the first call of
        the same idempotency key in its place.
        """
        _, store = self._writable()
        if not changes and not key:
            response.revision = self._stable.serving.snapshot.revision
            return
        digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
        name = request.DESCRIPTOR.name.encode()
        append = Append(
            changes=changes,
            outcomes=response.SerializeToString(),
            idempotency_key=IdempotencyKey(key=key, request_digest=name + digest) if key else None,
        )
        # The writer's future is not given up with the call: what it does is done either way, and
        # nobody is left then to hear of a refusal.
        writing = asyncio.wrap_future(store.append(append))
        writing.add_done_callback(lambda done: done.cancelled() or done.exception())
        result: AppendResult = await asyncio.shield(writing)
        if result.replayed:
            response.Clear()
            response.MergeFromString(result.outcomes)
        response.revision = result.revision
        response.replayed = result.replayed
        for one in self._catalogs.values():
            if one.changing is not None:
                one.changing.nudge()


def _prepared(
    request: pb.UpsertItemsRequest, schema: ItemSchema, at: Snapshot, request_id: str
) -> tuple[pb.UpsertItemsResponse, list[ItemChange]]:
    """Return what became of each item, and the changes to make."""
    response = pb.UpsertItemsResponse()
    states: dict[str, ItemState] = {}
    fitting: list[tuple[FittedItem, pb.ItemOutcome, str]] = []
    for position, item in enumerate(request.items):
        outcome = response.outcomes.add(
            item_id=item.id, existed=at.catalog.row(item.id) is not None
        )
        field = f"items[{position}]"
        try:
            check_catalog.item(field, item)
            attributes = values(item.attributes)
            fitted = schema.fit(item.id, attributes, f"{field}.attributes")
            if fitted.unknown and request.strict:
                raise UnknownAttribute(
                    f"{field}.attributes",
                    expected=shown(at.catalog.attribute_names) or "none: the bundle has none",
                    got=shown(fitted.unknown),
                )
            outcome.unknown_attributes.extend(fitted.unknown)
            vector = None
            if item.HasField("vector"):
                sent = np.array(item.vector.values, np.float32)
                vector = schema.vector(sent, f"{field}.vector.values")
            elif not schema.embeds:
                raise InvalidValue(
                    f"{field}.vector",
                    expected="an embedding, since the bundle has no item tower",
                    got="none",
                )
            states[item.id] = ItemState(
                attributes=attributes,
                vector=vector,
                vector_bundle="" if vector is None else schema.bundle_sha256,
            )
            fitting.append((fitted, outcome, f"{field}.attributes"))
        except ShortlistError as error:
            fill_row_error(outcome.error, error, request_id)
    for (_, outcome, _), why in zip(fitting, _faults(fitting, states, schema), strict=True):
        if why is not None:  # what is kept can be served
            del states[outcome.item_id]
            fill_row_error(outcome.error, why, request_id)
    changes = [
        ItemChange(item_id=item_id, payload=state.encode()) for item_id, state in states.items()
    ]
    return response, changes


def _faults(
    fitting: Sequence[tuple[FittedItem, pb.ItemOutcome, str]],
    states: Mapping[str, ItemState],
    schema: ItemSchema,
) -> list[ShortlistError | None]:
    """Return why the models do not take an item, for each item; None where they do."""
    items, fields = [item for item, _, _ in fitting], [field for _, _, field in fitting]
    faults: list[ShortlistError | None] = [*schema.model_faults(items, fields)]
    embedded = [
        place
        for place, item in enumerate(items)
        if faults[place] is None and states[item.item_id].vector is None
    ]
    some = [items[place] for place in embedded]
    # The texts themselves are embedded by who follows the store: a text cannot be refused, and a
    # thousand of them take many seconds.
    made = schema.embed_each(some, schema.stand_ins(some), [fields[place] for place in embedded])
    for place, vector_or_why in zip(embedded, made, strict=True):
        if isinstance(vector_or_why, ShortlistError):
            faults[place] = vector_or_why
    return faults


def _fill_state(changing: Changing, response: pb.GetCatalogStatsResponse) -> None:
    state = changing.state
    response.live = True
    response.store_age.FromNanoseconds(int(changing.store_age_s * 1e9))
    response.changed_item_count = state.changed_count
    response.deleted_item_count = state.deleted_count
    response.tail_row_count = state.tail_size
    response.unembedded_text_count = state.unembedded_text_count
    response.misfit_count = len(state.misfits)
    for misfit in state.misfits[:MISFITS_MAX]:
        response.misfits.add(
            item_id=misfit.item_id,
            revision=misfit.revision,
            served=misfit.served,
            message=misfit.reason,
        )
