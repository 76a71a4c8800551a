"""How the playground's page is served: its files, their headers, and what its scope opens. What the
page itself does is tested in `tests/browser`.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http_calls import Reply, free_address, post
from serving_process import ServingProcess, run_server
from shortlist_server.access.api_keys import Scope, entry, make_key, read_keys
from shortlist_server.config import load_config
from shortlist_server.errors import ConfigError
from shortlist_server.generation import Generation
from shortlist_server.rpc.http import playground

BODY = {"query": {"user": {"id": "u1"}}, "limit": 3}
CALLS = {
    "RecommendationService/Recommend": BODY | {"explain": True, "debug": True},
    "RecommendationService/Retrieve": {"query": {"user": {"id": "u1"}}},
    "BundleService/GetActiveBundle": {},
}
"""What the page calls, but conversations."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of few words, where the real one is not built."""
    made = tmp_path_factory.mktemp("page")
    (made / "index.html").write_text('<meta name="grpc-port" content="{{grpc_port}}">' + "x" * 500)
    (made / "playground.js").write_text("void 0;\n")
    (made / "README.md").write_text("of no concern to browsers")
    return made


@pytest.fixture(scope="module")
def running(
    folder: Path, tiny_bundle: Path, generation: Generation, server: Any
) -> Iterator[tuple[Any, str]]:
    """A server with keys, and a key of the scope `playground` alone."""
    key = make_key()
    keys = folder / "keys.toml"
    keys.write_text(entry(key, name="guest", scopes=["playground"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(playground, "FOLDER", folder)
        started = type(server)(
            tiny_bundle,
            generation,
            http_listen="127.0.0.1:0",
            playground=True,
            api_keys_file=keys,
            catalog_store=str(folder / "items.db"),
        )
    yield started, key
    started.stop()


def get(running: tuple[Any, str], path: str, method: str = "GET", **headers: str) -> Reply:
    return post(running[0].http, path, b"", method=method, **headers)


def test_page_needs_no_key_and_knows_the_port_of_grpc(running: tuple[Any, str]) -> None:
    reply = get(running, "/playground/")
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    port = running[0].target.rpartition(":")[2]
    assert f'content="{port}"'.encode() in reply.body
    assert get(running, "/playground/index.html").body == reply.body
    assert get(running, "/playground/playground.js").headers["content-type"].startswith("text/java")


def test_every_answer_forbids_other_origins_and_inline_code(running: tuple[Any, str]) -> None:
    for path in ("/playground/", "/playground/ghost.js", "/playground"):
        headers = get(running, path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_files_are_compressed_and_known_again_by_their_tag(running: tuple[Any, str]) -> None:
    plain = get(running, "/playground/")
    packed = get(running, "/playground/", accept_encoding="br, gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < len(plain.body)
    again = get(running, "/playground/", if_none_match=plain.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    head = get(running, "/playground/", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(plain.body))


def test_other_paths_lead_to_the_page_or_nowhere(running: tuple[Any, str]) -> None:
    for path in ("/", "/playground"):
        moved = get(running, path)
        assert (moved.status, moved.headers["location"]) == (307, "playground/")
    for path in (
        "/playground/ghost.js",
        "/playground/README.md",
        "/playground/keys.toml",
        "/playground/../keys.toml",
        "/playground/%2e%2e/keys.toml",
        "/playground//etc/passwd",
    ):
        assert get(running, path).status == 404, path
    assert get(running, "/playground/", method="POST").status == 405


def test_scope_opens_what_the_page_calls_and_nothing_that_changes_items(
    running: tuple[Any, str],
) -> None:
    server, key = running
    sent = {"authorization": f"Bearer {key}"}
    for method, body in CALLS.items():
        assert post(server.http, f"/shortlist.v1.{method}", body, **sent).status == 200, method
    refused = post(server.http, "/shortlist.v1.CatalogService/DeleteItems", {}, **sent)
    assert (refused.status, refused.reason) == (403, "SCOPE_MISSING")
    (opened,) = read_keys(server.config.api_keys_file)
    assert opened.scopes == {Scope.PLAYGROUND, Scope.RECOMMEND, Scope.EXPLAIN, Scope.DEBUG}


def test_without_it_there_is_no_page(server: Any, tiny_bundle: Path, generation: Any) -> None:
    started = type(server)(tiny_bundle, generation, http_listen="127.0.0.1:0")
    try:
        for path in ("/", "/playground/"):
            assert post(started.http, path, b"", method="GET").status == 404
    finally:
        started.stop()


def test_it_needs_http() -> None:
    with pytest.raises(ConfigError, match=r"playground .*: expected http_listen \(--http\)"):
        load_config(None, {"bundle": "b", "playground": True})


def test_a_checkout_without_the_page_says_how_to_build_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playground, "FOLDER", tmp_path)
    with pytest.raises(ConfigError, match="run `make playground`"):
        playground.check_built()


def test_the_flag_needs_no_value(tiny_bundle: Path) -> None:
    shown = run_server(
        "show-config", "--bundle", str(tiny_bundle), "--http", "127.0.0.1:0", "--playground"
    )
    assert "\nplayground = true\n" in shown.stdout, shown.stderr


@pytest.mark.skipif(
    not (playground.FOLDER / "index.html").is_file(),
    reason="the page is not built: make playground",
)
def test_workers_serve_it_too(tiny_bundle: Path, tmp_path: Path) -> None:
    address = free_address()
    with ServingProcess(
        tiny_bundle, "--workers", "2", "--http", address, "--playground"
    ) as process:
        reply = post(address, "/playground/", b"", method="GET")
        assert reply.status == 200
        assert f'content="{process.target.rpartition(":")[2]}"'.encode() in reply.body
