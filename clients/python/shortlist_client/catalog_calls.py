"""The calls that read and change items of the catalogue; as in `calls`."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from functools import partial

from shortlist.v1 import catalog_pb2, types_pb2

from shortlist_client import results
from shortlist_client.call import Call, checked_request_id, own_timeout_s
from shortlist_client.options import CatalogItem
from shortlist_client.requests import values_to_proto
from shortlist_client.responses import bundle_id_from_proto, values_from_proto
from shortlist_client.status import error_from_row
from shortlist_client.values import (
    invalid,
    number,
    optional_flag,
    optional_text,
    revision,
    text,
    texts,
)


def upsert_items(
    items: Iterable[CatalogItem],
    *,
    idempotency_key: str | None = None,
    strict: bool | None = None,
    timeout_s: float | None = None,
    request_id: str | None = None,
) -> Call[catalog_pb2.UpsertItemsRequest, catalog_pb2.UpsertItemsResponse, results.ItemChanges]:
    """Write items, new ones or others in the place of those that there are.

    The change is durable when this returns. An item that is refused is in `failures`, and the
    others are written all the same.

    Args:
        items: 1..1,000 items, none twice.
        idempotency_key: Names this change: sent again within 24 hours, it is applied once. None: a
            new name, for the retries of this call.
        strict: Refuse items with attributes that the bundle does not declare.
        timeout_s: Deadline of this call. None: the client's.
        request_id: Id of this request. None: a new one.

    Raises:
        ShortlistError: See `shortlist_client.errors`.
    """
    if isinstance(items, CatalogItem) or not isinstance(items, Iterable):
        raise invalid("items", "a list of CatalogItem", items)
    call_id = checked_request_id(request_id)
    return Call(
        method=lambda stubs: stubs.catalog.UpsertItems,
        request=catalog_pb2.UpsertItemsRequest(
            items=[item_to_proto(item, f"items[{place}]") for place, item in enumerate(items)],
            idempotency_key=_key(idempotency_key),
            strict=optional_flag(strict, "strict"),
        ),
        read=partial(_changes_from_proto, request_id=call_id),
        request_id=call_id,
        timeout_s=own_timeout_s(timeout_s),
    )


def delete_items(
    item_ids: Collection[str],
    *,
    idempotency_key: str | None = None,
    timeout_s: float | None = None,
    request_id: str | None = None,
) -> Call[catalog_pb2.DeleteItemsRequest, catalog_pb2.DeleteItemsResponse, results.ItemChanges]:
    """Take items away. Unknown ones have no effect.

    Args:
        item_ids: 1..1,000 ids, none twice.
        idempotency_key: As for `upsert_items`, like all that follows.
        timeout_s: Deadline of this call.
        request_id: Id of this request.

    Raises:
        ShortlistError: See `shortlist_client.errors`.
    """
    call_id = checked_request_id(request_id)
    return Call(
        method=lambda stubs: stubs.catalog.DeleteItems,
        request=catalog_pb2.DeleteItemsRequest(
            item_ids=texts(item_ids, "item_ids"), idempotency_key=_key(idempotency_key)
        ),
        read=partial(_changes_from_proto, request_id=call_id),
        request_id=call_id,
        timeout_s=own_timeout_s(timeout_s),
    )


def get_item(
    item_id: str,
    *,
    with_vector: bool | None = None,
    min_revision: int | None = None,
    bundle_label: str | None = None,
    timeout_s: float | None = None,
    request_id: str | None = None,
) -> Call[catalog_pb2.GetItemRequest, catalog_pb2.GetItemResponse, results.ServedItem]:
    """Return an item as it is served now.

    Args:
        item_id: Its id.
        with_vector: Return its embedding, too.
        min_revision: Least revision of the catalogue to answer from; see `recommend`.
        bundle_label: Which bundle shows it: `stable`, `canary` or `shadow`. None: the stable one.
        timeout_s: Deadline of this call. None: the client's.
        request_id: Id of this request. None: a new one.

    Raises:
        NotFound: There is no such item.
        ShortlistError: See `shortlist_client.errors`.
    """
    return Call(
        method=lambda stubs: stubs.catalog.GetItem,
        request=catalog_pb2.GetItemRequest(
            item_id=text(item_id, "item_id"),
            with_vector=optional_flag(with_vector, "with_vector"),
            min_revision=revision(min_revision, "min_revision"),
            bundle_label=optional_text(bundle_label, "bundle_label"),
        ),
        read=_served_from_proto,
        request_id=checked_request_id(request_id),
        timeout_s=own_timeout_s(timeout_s),
    )


def _key(idempotency_key: str | None) -> str:
    # Retries below the caller carry it, and so are not applied twice.
    if idempotency_key is None:
        return uuid.uuid4().hex
    return text(idempotency_key, "idempotency_key")


def item_to_proto(item: object, field: str) -> catalog_pb2.Item:
    """Return the message of an item.

    Raises:
        InvalidValue: It is no CatalogItem, or holds what the wire cannot.
    """
    if not isinstance(item, CatalogItem):
        raise invalid(field, "a CatalogItem", item)
    vector = None
    if item.vector is not None:
        vector = types_pb2.Embedding(
            values=[
                number(component, f"{field}.vector.values[{place}]")
                for place, component in enumerate(item.vector)
            ]
        )
    return catalog_pb2.Item(
        id=text(item.id, f"{field}.id"),
        attributes=values_to_proto(item.attributes, f"{field}.attributes"),
        vector=vector,
    )


def _changes_from_proto(
    response: catalog_pb2.UpsertItemsResponse | catalog_pb2.DeleteItemsResponse, *, request_id: str
) -> results.ItemChanges:
    return results.ItemChanges(
        revision=response.revision,
        replayed=response.replayed,
        outcomes=tuple(
            results.ItemOutcome(
                item_id=outcome.item_id,
                error=error_from_row(outcome.error, request_id=request_id)
                if outcome.HasField("error")
                else None,
                unknown_attributes=tuple(outcome.unknown_attributes),
                existed=outcome.existed,
            )
            for outcome in response.outcomes
        ),
    )


def _served_from_proto(response: catalog_pb2.GetItemResponse) -> results.ServedItem:
    item = response.item
    return results.ServedItem(
        id=item.id,
        attributes=values_from_proto(item.attributes),
        vector=tuple(item.vector.values) if item.HasField("vector") else None,
        revision=response.revision,
        catalog_revision=response.catalog_revision,
        bundle=bundle_id_from_proto(response.bundle),
    )
