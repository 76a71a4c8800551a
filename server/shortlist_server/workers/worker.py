"""What a worker does: serve, as the supervisor says, what its zygote has loaded."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from shortlist_server.access.api_keys import MakeBucket
from shortlist_server.access.shared_buckets import SharedBuckets
from shortlist_server.app import Shared
from shortlist_server.config import ServerConfig
from shortlist_server.errors import ShuttingDown
from shortlist_server.labels import LabeledGenerations
from shortlist_server.serving import ServingProcess
from shortlist_server.workers.link import Link, LinkClosed

logger = logging.getLogger(__name__)


def serve_as_worker(
    config: ServerConfig,
    generations: LabeledGenerations,
    end: socket.socket,
    port: int,
    buckets: int,
) -> int:
    """Serve until told to stop, or until the supervisor ends.

    Args:
        config: The configuration.
        generations: What the zygote has loaded.
        end: The socket to the supervisor.
        port: The port that the workers share.
        buckets: Descriptor of the memory of the rate limits that the workers share.
    """
    make_bucket = SharedBuckets(buckets).bucket
    return asyncio.run(_Worker(config, generations, port, make_bucket).run(end))


class _Worker:
    """Answers the supervisor, and asks it on behalf of callers; implements
    `rpc.bundle_service.BundleControl`.
    """

    def __init__(
        self,
        config: ServerConfig,
        generations: LabeledGenerations,
        port: int,
        make_bucket: MakeBucket,
    ) -> None:
        self._config = config
        self._generations = generations
        self._shared = Shared(port=port, control=self, make_bucket=make_bucket)
        self._begin = time.perf_counter()
        self._serving: ServingProcess | None = None
        self._ended = False
        self._link: Link

    async def run(self, end: socket.socket) -> int:
        self._link = await Link.over(
            end,
            {
                "prepare": self._prepare,
                "listen": self._listen,
                "metrics": self._metrics,
                "pending_rows": self._pending_rows,
                "hand_over": self._hand_over,
                "drain": self._drain,
            },
        )
        await self._link.run()
        # The supervisor closes the link of a worker that has ended as told. Where it has gone
        # itself, nothing may hold on to the port or to what was loaded.
        logging.shutdown()
        # Not `return`. Taking apart what was loaded would write to all the pages that it shares,
        # and so copy them first; and a gRPC server that still serves, as where the supervisor was
        # killed, may wait for its own threads for ever when its event loop ends.
        os._exit(0 if self._ended else 1)

    async def _prepare(self) -> None:
        self._serving = ServingProcess(self._config, self._generations, self._shared)

    async def _listen(self) -> None:
        assert self._serving is not None
        await self._serving.start(self._begin)

    async def _metrics(self) -> list[dict[str, Any]]:
        if self._serving is None or self._serving.metrics is None:
            return []
        return self._serving.metrics.families()

    async def _pending_rows(self) -> int:
        return 0 if self._serving is None else self._serving.pending_rows

    async def _hand_over(self) -> list[dict[str, Any]]:
        assert self._serving is not None
        await self._serving.server.hand_over()
        return await self._end()

    async def _drain(self) -> list[dict[str, Any]]:
        assert self._serving is not None
        await self._serving.server.drain()
        return await self._end()

    async def _end(self) -> list[dict[str, Any]]:
        assert self._serving is not None
        counted = await self._metrics()
        await self._serving.language_models.close()
        self._serving.close()
        self._ended = True
        return counted

    async def list_bundles(self) -> list[Mapping[str, Any]]:
        """Ask the supervisor; see `BundleControl`."""
        found: list[Mapping[str, Any]] = await self._ask("list_bundles")
        return found

    async def activate(
        self, *, name: str, version: str, sha256: str, label: str, validate_only: bool
    ) -> Mapping[str, Any]:
        """Ask the supervisor; see `BundleControl`."""
        found: Mapping[str, Any] = await self._ask(
            "activate",
            name=name,
            version=version,
            sha256=sha256,
            label=label,
            validate_only=validate_only,
        )
        return found

    async def roll_back(self, *, label: str) -> Mapping[str, Any]:
        """Ask the supervisor; see `BundleControl`."""
        found: Mapping[str, Any] = await self._ask("roll_back", label=label)
        return found

    async def deactivate(self, *, label: str) -> Mapping[str, Any]:
        """Ask the supervisor; see `BundleControl`."""
        found: Mapping[str, Any] = await self._ask("deactivate", label=label)
        return found

    async def _ask(self, method: str, **arguments: Any) -> Any:
        try:
            return await self._link.call(method, **arguments)
        except LinkClosed as error:
            raise ShuttingDown from error
