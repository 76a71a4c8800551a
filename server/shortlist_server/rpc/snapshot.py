"""What one request is answered from."""

from __future__ import annotations

from dataclasses import dataclass

from shortlist.v1 import types_pb2

from shortlist_server.catalog.catalog import ItemTable
from shortlist_server.funnel.funnel import Funnel


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A generation as it stands at one revision of the catalogue. A request takes one when it
    arrives and keeps it for its whole life; nothing in it ever changes.
    """

    funnel: Funnel
    catalog: ItemTable
    identity: types_pb2.BundleId
    revision: int = 0
    """Revision of the catalogue; 0 where nothing was ever changed."""
