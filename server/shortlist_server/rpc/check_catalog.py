"""Requests of the CatalogService as callers send them: is every field in its range?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from shortlist_server.errors import FieldRequired, InvalidValue
from shortlist_server.rpc.check import min_revision, values
from shortlist_server.rpc.check_values import count_at_most, ids, one_id, text_at_most

if TYPE_CHECKING:
    from shortlist.v1 import catalog_pb2

ITEMS_MAX = 1_000
ATTRIBUTE_NAME_BYTES_MAX = 256
KEY_BYTES_MAX = 128


def upsert_items_request(request: catalog_pb2.UpsertItemsRequest) -> None:
    """Check an UpsertItemsRequest, but for what `item` checks.

    Raises:
        RequestError: a field is out of its range; the error names it.
    """
    _items("items", [item.id for item in request.items], "id")
    text_at_most("idempotency_key", request.idempotency_key, KEY_BYTES_MAX)


def item(field: str, item: catalog_pb2.Item) -> None:
    """Check the attributes of an item; raises like `upsert_items_request`."""
    values(f"{field}.attributes", item.attributes)
    for name in item.attributes:
        if not name:
            raise FieldRequired(f"{field}.attributes", expected="names", got="an empty name")
        text_at_most(f'{field}.attributes["{name[:80]}"]', name, ATTRIBUTE_NAME_BYTES_MAX)


def delete_items_request(request: catalog_pb2.DeleteItemsRequest) -> None:
    """Check a DeleteItemsRequest; raises like `upsert_items_request`."""
    _items("item_ids", request.item_ids)
    text_at_most("idempotency_key", request.idempotency_key, KEY_BYTES_MAX)


def get_item_request(request: catalog_pb2.GetItemRequest) -> None:
    """Check a GetItemRequest; raises like `upsert_items_request`."""
    one_id("item_id", request.item_id)
    min_revision(request.min_revision)


def _items(field: str, item_ids: Sequence[str], inside: str = "") -> None:
    if not item_ids:
        raise FieldRequired(field, expected=f"1..{ITEMS_MAX} entries", got="none")
    count_at_most(field, len(item_ids), ITEMS_MAX)
    if inside:
        for position, item_id in enumerate(item_ids):
            one_id(f"{field}[{position}].{inside}", item_id)
    else:
        ids(field, item_ids)
    if len(set(item_ids)) < len(item_ids):
        twice, _ = Counter(item_ids).most_common(1)[0]
        raise InvalidValue(field, expected="each item once", got=f"{twice} more than once")
