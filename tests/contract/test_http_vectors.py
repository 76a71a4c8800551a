"""The shared request vectors over HTTP: the same answers, and the same errors, as over gRPC."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from google.rpc.error_details_pb2 import ErrorInfo
from http_calls import enveloped, messages, post
from request_vectors import Vector, differences, method_of, vectors
from vector_server import VectorServers, vector_servers

HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
KIND = "application/connect+json"


def test_every_vector_is_answered_as_expected(tmp_path: Path) -> None:
    wrong: list[str] = []
    with vector_servers(tmp_path) as servers:
        for vector in vectors():
            found = differences(vector.expected, send(vector, servers), method=vector.method)
            wrong += [f"{vector.name}: {difference}" for difference in found]
    assert not wrong, "\n".join(wrong)


def send(vector: Vector, servers: VectorServers) -> Any:
    """Send a vector over HTTP; returns what came, as `expected` has it."""
    path, address = f"/{vector.method}", servers.http[vector.server]
    headers = {"connect_timeout_ms": "60000"}
    if vector.key != "none":
        headers["authorization"] = f"Bearer {servers.keys[vector.key]}"
    if method_of(vector.method).server_streaming:
        body = enveloped(json.dumps(vector.request).encode())
        reply = post(address, path, body, content_type=KIND, **headers)
        assert reply.status == 200
        answers, end = messages(reply.body)
        return {"error": error_of(end["error"])} if "error" in end else {"responses": answers}
    reply = post(address, path, vector.request, **headers)
    if reply.status == 200:
        return {"responses": [reply.json]}
    error = error_of(reply.json)
    assert reply.status == HTTP_STATUS[error["code"]], vector.name
    return {"error": error}


def error_of(error: Any) -> dict[str, Any]:
    by_type = {detail["type"]: detail for detail in error.get("details", [])}
    info = ErrorInfo()
    if named := by_type.get("google.rpc.ErrorInfo"):
        info.ParseFromString(base64.b64decode(named["value"] + "=="))
    return {
        "code": error["code"].upper(),
        "reason": info.reason,
        "message": error.get("message", ""),
        "metadata": dict(info.metadata),
        "has_retry_delay": "google.rpc.RetryInfo" in by_type,
    }
