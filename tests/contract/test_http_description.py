"""The OpenAPI description of what HTTP answers: that it is whole, and that the server keeps to it,
by random requests.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import schemathesis
from http_calls import enveloped, messages, post
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core import NotSet
from schemathesis.generation import GenerationMode
from shortlist_server.generation import Generation
from shortlist_server.rpc.access import METHOD_SCOPES
from shortlist_server.rpc.http.openapi import STREAM_TYPE, describe

DESCRIPTION = describe()
SCHEMA = schemathesis.openapi.from_dict(DESCRIPTION)
USER = {"user": {"id": "u1"}}
EXAMPLES = 15
"""Of each method, that fit the description and that do not."""


@pytest.fixture(scope="module")
def address(
    tiny_bundle: Path,
    generation: Generation,
    server: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    store = tmp_path_factory.mktemp("described") / "items.db"
    running = type(server)(
        tiny_bundle, generation, http_listen="127.0.0.1:0", catalog_store=str(store)
    )
    yield running.http
    running.stop()


def test_every_method_is_described() -> None:
    ours = {method for method in METHOD_SCOPES if method.startswith("/shortlist.")}
    assert set(DESCRIPTION["paths"]) == ours
    for path in DESCRIPTION["paths"].values():
        assert path["post"]["description"]


def test_every_message_and_field_has_its_comment() -> None:
    schemas = {
        name: schema
        for name, schema in DESCRIPTION["components"]["schemas"].items()
        if name.startswith("shortlist.")
    }
    assert len(schemas) > 50
    for name, schema in schemas.items():
        assert schema["description"], name
        for field, held in schema.get("properties", {}).items():
            assert held["description"], f"{name}.{field}"


def test_references_lead_somewhere() -> None:
    text = json.dumps(DESCRIPTION)
    schemas = DESCRIPTION["components"]["schemas"]
    assert text.count('"$ref"') > 50
    for part in text.split('"$ref": "#/components/schemas/')[1:]:
        assert part.partition('"')[0] in schemas


def test_command_and_server_give_the_same(address: str) -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "shortlist_server.cli", "openapi"],
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert json.loads(printed.stdout) == DESCRIPTION
    served = post(address, "/openapi.json", b"", method="GET")
    assert (served.status, served.json) == (200, DESCRIPTION)
    assert served.headers["content-type"] == "application/json"


def conforms(path: str, answer: Any) -> None:
    """Check an answer against the description."""
    (answered,) = DESCRIPTION["paths"][path]["post"]["responses"]["200"]["content"].values()
    schema = answered["schema"] | {"components": DESCRIPTION["components"]}
    jsonschema.Draft202012Validator(schema).validate(answer)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("RecommendationService/Recommend", {"query": USER, "explain": True, "debug": True}),
        ("RecommendationService/Retrieve", {"query": USER, "attributes": ["*"]}),
        ("RecommendationService/Rank", {"query": USER, "itemIds": ["i1", "ghost"]}),
        ("RecommendationService/FindSimilarItems", {"itemId": "i1"}),
        ("CatalogService/GetItem", {"itemId": "i1", "withVector": True}),
        ("CatalogService/GetCatalogStats", {}),
        ("CatalogService/UpsertItems", {"items": [{"id": "new", "vector": {"values": [1] * 8}}]}),
        ("BundleService/GetActiveBundle", {}),
    ],
)
def test_answers_are_as_described(address: str, name: str, body: Any) -> None:
    path = f"/shortlist.v1.{name}"
    reply = post(address, path, body)
    assert reply.status == 200
    conforms(path, reply.json)
    with pytest.raises(jsonschema.ValidationError):
        conforms(path, reply.json | {"unheard": 1})


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("path", DESCRIPTION["paths"])
def test_no_request_ends_in_a_fault_of_the_server(
    address: str, path: str, mode: GenerationMode
) -> None:
    operation = SCHEMA[path]["POST"]
    stream = STREAM_TYPE in DESCRIPTION["paths"][path]["post"]["requestBody"]["content"]

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def call(case: Any) -> None:
        body = case.body
        if not isinstance(body, bytes):
            body = b"" if isinstance(body, NotSet) else json.dumps(body).encode()
        headers = {
            name.lower(): str(value)
            for name, value in (case.headers or {}).items()
            if str(value).isascii() and str(value).isprintable()
        }
        if stream:
            headers["content-type"] = STREAM_TYPE
            reply = post(address, path, enveloped(body), **headers)
            _, end = messages(reply.body) if reply.status == 200 else ([], reply.json)
            error = end.get("error", {})
        else:
            reply = post(address, path, body, **headers)
            error = {} if reply.status == 200 else reply.json
        if error.get("code") in ("unavailable", "deadline_exceeded"):
            # The description cannot say which revisions there are, nor how long a call takes.
            assert "min_revision" in error["message"] or "connect-timeout-ms" in headers
            return
        assert reply.status < 500
        assert error.get("code") not in ("internal", "unknown"), error
        if reply.status == 200 and not stream:
            conforms(path, reply.json)

    call()
