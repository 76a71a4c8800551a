"""Finds hashed ids again: who has the key and the bundle can hash all ids that it knows."""

from __future__ import annotations

from collections.abc import Iterable, MutableSequence
from typing import Any

from shortlist_server.observability import masking
from shortlist_server.observability.masking import keyed_hash


class Unmasking:
    """The ids of one bundle by their hashes."""

    def __init__(self, key: bytes, *, user_ids: Iterable[str], item_ids: Iterable[str]) -> None:
        """Hash the ids.

        Args:
            key: The secret that the log was written with.
            user_ids: All users that the bundle knows.
            item_ids: All its items.
        """
        self._users = {keyed_hash(key, "user", name.encode()): name for name in user_ids}
        self._items = {keyed_hash(key, "item", name.encode()): name for name in item_ids}

    def restore(self, request: Any, masked: tuple[str, ...]) -> tuple[str, ...]:
        """Put ids in place of their hashes, in the request itself.

        A hash of no item is an item that the bundle does not know: it has as little effect as its
        id. A user whom the bundle does not know stays masked, since models may read his id.

        Returns:
            The paths that are still not as they were sent.
        """
        lost = set(masked)
        if masking.USER_ID in lost and (name := self._users.get(request.query.user.id)):
            request.query.user.id = name
            lost.remove(masking.USER_ID)
        if masking.HISTORY in lost:
            for event in request.query.user.history:
                event.item_id = self._items.get(event.item_id, event.item_id)
            lost.remove(masking.HISTORY)
        if masking.ITEMS in lost:
            self._restore_all(request.query.items.item_ids)
        if masking.EXCLUSIONS in lost:
            self._restore_all(request.exclusions.item_ids)
        if masking.EXCLUDED in lost:
            self._restore_all(request.excluded_item_ids)
        lost -= {masking.ITEMS, masking.EXCLUSIONS, masking.EXCLUDED}
        return tuple(path for path in masked if path in lost)

    def _restore_all(self, item_ids: MutableSequence[str]) -> None:
        restored = [self._items.get(item_id, item_id) for item_id in item_ids]
        del item_ids[:]
        item_ids.extend(restored)
