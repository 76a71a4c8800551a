"""Compaction behind several workers: what was made is switched to as another bundle is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from shortlist_server.compacted_folders import CompactedFolders
from shortlist_server.compaction import Compactor, families
from shortlist_server.config import ServerConfig
from shortlist_server.workers.worker_set import WorkerSet


class Folding:
    """Folds changes in where the configuration says so; implements `compaction.CompactionHost`."""

    def __init__(
        self,
        config: ServerConfig,
        current: Callable[[], WorkerSet],
        is_switching: Callable[[], bool],
        switch: Callable[[Path], Awaitable[object]],
    ) -> None:
        """Begin with nothing to do.

        Args:
            config: The configuration.
            current: Returns the workers that take new connections.
            is_switching: Whether a switch is under way, or the workers before it still serve.
            switch: Goes over to workers that load a bundle anew; see `Supervisor.switch`.
        """
        self._current = current
        self._is_switching = is_switching
        self._switch = switch
        self._folders: CompactedFolders | None = None
        self._compactor: Compactor | None = None
        if config.compaction_rows and config.state_dir is not None:
            self._folders = CompactedFolders(config.state_dir)
            self._compactor = Compactor(config, self)

    async def run(self) -> None:
        """Compact whenever it is time, until cancelled."""
        await self.clean()
        if self._compactor is not None:
            await self._compactor.run()

    def give_up(self) -> None:
        """End what is being made: another bundle is going to serve."""
        if self._compactor is not None:
            self._compactor.give_up()

    async def clean(self) -> None:
        """Remove what nothing serves from; only where no other set of workers has been loaded."""
        if self._folders is not None:
            folder = Path(self._current().items["folder"])
            await asyncio.to_thread(self._folders.keep_only, {folder})

    def families(self) -> list[dict[str, Any]]:
        """Return its metrics; see `Metrics.families`."""
        return [] if self._compactor is None else families(self._compactor)

    async def pending_rows(self) -> int:
        """Ask a worker; see `CompactionHost`."""
        return await self._current().pending_rows()

    def served_folder(self) -> Path:
        """Return the folder that was switched to last; see `CompactionHost`."""
        return Path(self._current().bundle["folder"])

    def is_busy(self) -> bool:
        """Return whether a switch has not ended; see `CompactionHost`."""
        return self._is_switching()

    async def take_over(self) -> int:
        """Switch to the same bundle, which is loaded with what was folded in; see
        `CompactionHost`.
        """
        await self._switch(self.served_folder())
        revision: int = self._current().items["revision"]
        return revision
