"""What one request is answered from."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from shortlist.v1 import types_pb2

from shortlist_server.catalog.catalog import ItemTable
from shortlist_server.errors import RevisionNotReached
from shortlist_server.funnel.arrays import ByRow
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.funnel import Funnel

REVISION_WAIT_S_MAX = 2.0
"""Longest wait for a revision: what is not seen by then is seen late, if ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A generation as it stands at one revision of the catalogue. A request takes one when it
    arrives and keeps it for its whole life; nothing in it ever changes.
    """

    funnel: Funnel
    catalog: ItemTable
    identity: types_pb2.BundleId
    embeddings: ByRow
    """Embedding of each row of the catalogue, [rows, dimension] float32."""
    revision: int = 0
    """Revision of the catalogue; 0 where nothing was ever changed."""
    label: str = "stable"
    """Label of the generation: `stable` or `canary`."""


class Serving(Protocol):
    """What is answered from, now and later."""

    @property
    def snapshot(self) -> Snapshot:
        """What a request that arrives now is answered from."""

    @property
    def follows(self) -> bool:
        """Whether the snapshot is of the catalogue as it was when its store was last read. False
        where changes cannot be applied to the bundle.
        """

    async def reached(self, revision: int) -> None:
        """Wait until the snapshot is of this revision, or a later one: for ever, if need be."""


class Unchanging:
    """A bundle whose items do not change; implements `Serving`."""

    follows = True

    def __init__(self, snapshot: Snapshot) -> None:
        """Take the one snapshot."""
        self.snapshot = snapshot

    async def reached(self, revision: int) -> None:
        """Tell at once that no other revision will come.

        Raises:
            RevisionNotReached: the revision is a later one.
        """
        if revision > self.snapshot.revision:
            raise RevisionNotReached(wanted=revision, reached=self.snapshot.revision)


async def snapshot_of(serving: Serving, min_revision: int, budget: Budget) -> Snapshot:
    """Return what a request is answered from, once it is of the revision asked for.

    Raises:
        RevisionNotReached: it is not when half of the budget, or `REVISION_WAIT_S_MAX`, is gone.
    """
    if serving.snapshot.revision < min_revision:
        try:
            patience_s = min(budget.left_s / 2, REVISION_WAIT_S_MAX)
            await asyncio.wait_for(serving.reached(min_revision), patience_s)
        except TimeoutError:
            reached = serving.snapshot.revision
            raise RevisionNotReached(wanted=min_revision, reached=reached) from None
    return serving.snapshot
