"""What callers ask of the bundles: workers pass it on to the supervisor, where this answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from shortlist_server.bundle_label import BundleLabel
from shortlist_server.config import ServerConfig
from shortlist_server.errors import BundleMissing, InvalidValue, NotConfigured
from shortlist_server.workers.bundle_folder import BundleSource, FoundBundle
from shortlist_server.workers.bundle_source import choose, listed
from shortlist_server.workers.link import Methods
from shortlist_server.workers.serving_state import ServingState


class Switches(Protocol):
    """What serves, and how to change it; see `supervisor.Supervisor`."""

    @property
    def bundles(self) -> Mapping[str, Mapping[str, Any]]:
        """What serves, by label."""

    @property
    def state(self) -> ServingState:
        """What is remembered of what serves, and of what served before."""

    async def switch(self, folder: Path, label: str, sha256: str) -> Mapping[str, Any]:
        """Load a folder under a label, and hand over to it; returns its bundle."""

    async def take_away(self, label: str) -> None:
        """Take a label from the bundle that has it."""

    async def validate(self, folder: Path) -> Mapping[str, Any]:
        """Load a bundle in a process that ends then; returns the bundle."""


class BundleCalls:
    """Answers as `rpc.bundle_service.BundleControl` says."""

    def __init__(
        self, config: ServerConfig, source: BundleSource | None, switches: Switches
    ) -> None:
        """Take where bundles come from, and who switches.

        Args:
            config: The configuration.
            source: Where bundles come from; None where there is only `bundle`.
            switches: What serves.
        """
        self._config = config
        self._source = source
        self._switches = switches

    def methods(self) -> Methods:
        """Return what workers may ask."""
        return {
            "list_bundles": self.list_bundles,
            "activate": self.activate,
            "roll_back": self.roll_back,
            "deactivate": self.deactivate,
        }

    async def list_bundles(self) -> list[dict[str, Any]]:
        """Return the bundles that there are, newest first; see `rpc.bundle_service`."""
        found = [] if self._source is None else await asyncio.to_thread(self._source.look)
        return listed(found, self._switches.bundles)

    async def activate(
        self, *, name: str, version: str, sha256: str, label: str, validate_only: bool
    ) -> dict[str, Any]:
        """Give a label to a bundle; see `rpc.bundle_service.BundleControl`."""
        active = self._switches.bundles.get(label)
        if active is not None and sha256 == active["sha256"] and not validate_only:
            return {"bundle": active, "previous": None, "switched": False}
        wanted = await self._find(name, version, sha256)
        if active is not None and wanted.sha256 == active["sha256"] and not validate_only:
            return {"bundle": active, "previous": None, "switched": False}
        assert self._source is not None
        if not validate_only:
            self._check_label(label, wanted.sha256)
        folder = await asyncio.to_thread(self._source.fetch, wanted)
        if validate_only:
            return {
                "bundle": await self._switches.validate(folder),
                "previous": None,
                "switched": False,
            }
        bundle = await self._switches.switch(folder, label, wanted.sha256)
        return {"bundle": bundle, "previous": active, "switched": True}

    async def roll_back(self, *, label: str) -> dict[str, Any]:
        """Give a label to the bundle before; see `rpc.bundle_service.BundleControl`."""
        before = self._switches.state.previous.get(label)
        if before is None:
            raise BundleMissing(f"{label}: no bundle was active before this one")
        self._check_label(label, before["sha256"])
        active = self._switches.bundles.get(label)
        bundle = await self._switches.switch(Path(before["folder"]), label, before["sha256"])
        return {"bundle": bundle, "previous": active, "switched": True}

    async def deactivate(self, *, label: str) -> dict[str, Any]:
        """Take a label away; see `rpc.bundle_service.BundleControl`."""
        active = self._switches.bundles.get(label)
        if active is not None:
            await self._switches.take_away(label)
        return {"previous": active}

    async def _find(self, name: str, version: str, sha256: str) -> FoundBundle:
        if self._source is None:
            raise NotConfigured(setting="bundles", expected="a folder or a URL of bundles")
        return choose(await asyncio.to_thread(self._source.look), name, version, sha256)

    def _check_label(self, label: str, sha256: str) -> None:
        stable = self._switches.bundles[BundleLabel.STABLE]
        if label != BundleLabel.STABLE and sha256 == stable["sha256"]:
            raise InvalidValue(
                "label",
                expected="stable, the label of this bundle; activate another as stable first",
                got=label,
            )
        if label == BundleLabel.SHADOW and self._config.metrics_listen is None:
            expected = "an address, since a shadow is seen in the metrics alone"
            raise NotConfigured(setting="metrics_listen", expected=expected)
