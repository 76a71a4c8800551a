"""A grpc.aio server whose one method does nothing: what a call costs before anybody has computed
anything.

    python noop_server.py [PORT]
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc

METHOD = "/noop.Noop/Call"


class Handler(grpc.GenericRpcHandler):
    """Answers every method with no bytes."""

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Return the empty handler."""
        return grpc.unary_unary_rpc_method_handler(_call)


async def _call(request: bytes, context: Any) -> bytes:
    return b""


async def main() -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port(f"127.0.0.1:{sys.argv[1] if len(sys.argv) > 1 else 0}")
    await server.start()
    print(f"ready on port {port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
