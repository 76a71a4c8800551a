"""`POST /recommend` as the codelab's app sends it: what it is answered, and how it is refused."""

from __future__ import annotations

import gzip
import importlib.util
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest
from altered_funnel import AlteredSource, altered, kinds_of, stalled
from conftest import RunningServer
from http_calls import Reply, post
from pyarrow import parquet
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import recommendation_pb2_grpc
from shortlist.v1 import types_pb2 as types
from shortlist_exporters.export import export_bundle
from shortlist_server.access.api_keys import entry, make_key
from shortlist_server.cli import main
from shortlist_server.errors import NotConfigured
from shortlist_server.generation import Generation, load_generation

FILMS = Path(__file__).parents[2] / "docs/examples/films.py"
UNTITLED = "matrix"
ACCENTED = "Le Fabuleux Destin d'Am\u00e9lie Poulain \u2013 \u540d\u524d"


@pytest.fixture(scope="module")
def films_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The films of docs/, one with a title that is not ASCII, and one with none."""
    folder = tmp_path_factory.mktemp("films")
    loader = importlib.util.spec_from_file_location("films", FILMS)
    assert loader is not None
    assert loader.loader is not None
    films = importlib.util.module_from_spec(loader)
    loader.loader.exec_module(films)
    spec = films.write_spec(folder / "spec")
    table = parquet.read_table(folder / "spec/items.parquet")
    renamed = {"amelie": ACCENTED, UNTITLED: None}
    titles = [renamed.get(row["id"], row["title"]) for row in table.to_pylist()]
    place = table.column_names.index("title")
    parquet.write_table(
        table.set_column(place, "title", pa.array(titles, pa.string())),
        folder / "spec/items.parquet",
    )
    export_bundle(spec, folder / "bundle", version="1")
    return folder / "bundle"


@pytest.fixture(scope="module")
def films(films_bundle: Path) -> Generation:
    return load_generation(films_bundle)


@pytest.fixture(scope="module")
def serve(films_bundle: Path, films: Generation) -> Iterator[Callable[..., RunningServer]]:
    running: list[RunningServer] = []

    def start(loaded: Generation = films, **settings: Any) -> RunningServer:
        settings = {"http_listen": "127.0.0.1:0", "codelab_title": "title", **settings}
        running.append(RunningServer(films_bundle, loaded, **settings))
        return running[-1]

    yield start
    for each in running:
        each.stop()


@pytest.fixture(scope="module")
def running(serve: Callable[..., RunningServer]) -> RunningServer:
    """A server for the app, on the web, too."""
    return serve(http_cors_origins="*", access_log=True)


def over_grpc(running: RunningServer, user_id: str, **retrieval: Any) -> list[Any]:
    """The items that the method behind it recommends."""
    request = pb.RecommendRequest(
        query=types.Query(user=types.UserQuery(id=user_id)),
        limit=10,
        attributes=["title"],
        retrieval=types.RetrievalOptions(**retrieval),
    )
    with grpc.insecure_channel(running.target) as channel:
        stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
        return list(stub.Recommend(request, timeout=10).items)


class App:
    """The app on a phone or a desktop: Dart's client on one connection, and what main.dart does."""

    def __init__(self, address: str) -> None:
        host, port = address.split(":")
        self._address = address
        self._socket = socket.create_connection((host, int(port)), timeout=20)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> App:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def recommend(self, user_id: str, charset: str = "; charset=utf-8") -> list[str]:
        """What the list shows; raises what it shows instead.

        Args:
            user_id: What is typed into the field.
            charset: What package:http adds to the content type; newer ones do not.
        """
        # Dart's jsonEncode neither escapes nor spaces.
        body = json.dumps({"user_id": user_id}, separators=(",", ":"), ensure_ascii=False).encode()
        self._socket.sendall(
            b"POST /recommend HTTP/1.1\r\nuser-agent: Dart/3.4 (dart:io)\r\n"
            + f"content-type: application/json{charset}\r\n".encode()
            + b"accept-encoding: gzip\r\n"
            + f"content-length: {len(body)}\r\nhost: {self._address}\r\n\r\n".encode()
            + body
        )
        status, headers, answer = self._answer()
        if status != 200:
            raise RuntimeError("Exception: Error response")
        # Without a charset package:http 0.13 takes Latin-1, whatever JSON says.
        assert headers["content-type"] == "application/json"
        movies = json.loads(answer.decode("latin-1"))["movies"]
        assert all(isinstance(movie, str) for movie in movies)
        return list(movies)

    def _answer(self) -> tuple[int, dict[str, str], bytes]:
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self._file.readline(), 16):
                body += self._file.read(size)
                self._file.readline()
            self._file.readline()
        else:
            body = self._file.read(int(headers["content-length"]))
        return status, headers, gzip.decompress(body) if "gzip" in headers.values() else body


@pytest.mark.parametrize("charset", ["; charset=utf-8", ""])
def test_app_shows_ten_titles_as_the_funnel_ranks_them(
    running: RunningServer, charset: str
) -> None:
    with App(running.http) as app:
        # Nothing typed, and somebody who is new, are answered as well.
        for user in ("ada", "ben", "cleo", "stranger", "", "Zo\u00eb \u540d\u524d"):
            items = over_grpc(running, user)
            assert len(items) == 10
            expected = [item.attributes["title"].string_value or item.id for item in items]
            assert app.recommend(user, charset) == expected, user
        assert app.recommend("ada") != app.recommend("ben")


def test_titles_reach_an_app_that_reads_latin_1(running: RunningServer) -> None:
    with App(running.http) as app:
        assert ACCENTED in app.recommend("stranger")


def test_film_without_a_title_is_shown_by_its_id(running: RunningServer) -> None:
    with App(running.http) as app:
        assert UNTITLED in app.recommend("ada")


def test_as_many_films_are_ranked_as_is_set(serve: Callable[..., RunningServer]) -> None:
    """10, as the codelab ranks, do not hold all of the best."""
    few = serve(codelab_candidate_count=10)
    ten = over_grpc(few, "cleo", candidate_count=10)
    with App(few.http) as app:
        assert app.recommend("cleo") == [item.attributes["title"].string_value for item in ten]
    assert {item.id for item in ten} != {item.id for item in over_grpc(few, "cleo")}


def test_seen_films_come_again_where_they_are_to(serve: Callable[..., RunningServer]) -> None:
    seen = {"Star Wars", "Alien", "Metropolis"}
    for exclude in (False, True):
        with App(serve(codelab_exclude_seen=exclude).http) as app:
            assert exclude is not bool(seen & set(app.recommend("ada")))


def test_app_in_a_browser_may_call(running: RunningServer) -> None:
    origin = "http://localhost:51234"
    preflight = post(
        running.http,
        "/recommend",
        b"",
        method="OPTIONS",
        origin=origin,
        access_control_request_method="POST",
        access_control_request_headers="content-type",
    )
    assert (preflight.status, preflight.headers["access-control-allow-origin"]) == (200, "*")
    assert "content-type" in preflight.headers["access-control-allow-headers"]
    answered = post(running.http, "/recommend", {"user_id": "ada"}, origin=origin)
    assert answered.headers["access-control-allow-origin"] == "*"
    assert len(answered.json["movies"]) == 10
    # The browser shows a page the errors, too, only where it may read them.
    refused = post(running.http, "/recommend", {}, origin=origin)
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (400, "*")


@pytest.mark.parametrize(
    ("body", "reason", "field", "got"),
    [
        ({}, "FIELD_REQUIRED", "user_id", "none"),
        ({"userId": "42"}, "FIELD_REQUIRED", "user_id", "none"),
        ({"user_id": 42}, "INVALID_VALUE", "user_id", "a number"),
        ({"user_id": None}, "INVALID_VALUE", "user_id", "null"),
        ({"user_id": True}, "INVALID_VALUE", "user_id", "a boolean"),
        ({"user_id": ["42"]}, "INVALID_VALUE", "user_id", "a list"),
        ({"user_id": {}}, "INVALID_VALUE", "user_id", "an object"),
        ({"user_id": "\u00e9" * 257}, "OUT_OF_RANGE", "user_id", "514"),
        (b"", "INVALID_VALUE", "request", "a body that is no JSON object"),
        (b"[]", "INVALID_VALUE", "request", "a body that is no JSON object"),
        (b'{"user_id": "42"', "INVALID_VALUE", "request", "Failed to load JSON"),
        (b'{"user_id": "\\ud800"}', "INVALID_VALUE", "request", ""),
        (b"{\xff}", "INVALID_VALUE", "request", "'utf-8' codec can't decode"),
        (b'{"a": ' * 100_000, "INVALID_VALUE", "request", ""),
    ],
)
def test_wrong_bodies_are_refused_by_field(
    running: RunningServer, body: Any, reason: str, field: str, got: str
) -> None:
    reply = post(running.http, "/recommend", body)
    assert (reply.status, reply.json["code"], reply.reason) == (400, "invalid_argument", reason)
    info = reply.json["details"][0]["debug"]["metadata"]
    assert (info["field"], reply.json["message"].partition(":")[0]) == (field, field)
    assert got in info["got"]


def test_other_fields_are_skipped_as_the_codelab_does(running: RunningServer) -> None:
    more = {"user_id": "ada", "k": 3, "more": [None, {}]}
    expected = post(running.http, "/recommend", {"user_id": "ada"}).json
    assert post(running.http, "/recommend", more).json == expected


@pytest.mark.parametrize(
    ("method", "path", "kind", "status"),
    [
        ("GET", "/recommend", "application/json", 405),
        ("PUT", "/recommend", "application/json", 405),
        ("POST", "/recommend/", "application/json", 404),
        ("POST", "/recommendations", "application/json", 404),
        ("POST", "/recommend", "text/plain; charset=utf-8", 415),
        ("POST", "/recommend", "application/x-www-form-urlencoded", 415),
    ],
)
def test_what_is_no_such_call_ends_as_in_the_codelab(
    running: RunningServer, method: str, path: str, kind: str, status: int
) -> None:
    reply = post(running.http, path, {"user_id": "ada"}, method=method, content_type=kind)
    assert reply.status == status


def test_calls_are_logged_as_the_method_behind(
    running: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "shortlist_server.access_log"):
        answered = post(running.http, "/recommend", {"user_id": "ada"}, x_request_id="mine")
        refused = post(running.http, "/recommend", {}, x_request_id="other")
    assert [answered.headers["x-request-id"], refused.headers["x-request-id"]] == ["mine", "other"]
    method = "/shortlist.v1.RecommendationService/Recommend"
    first, second = caplog.messages
    assert first.startswith(f"mine {method} OK ")
    assert second.startswith(f"other {method} INVALID_ARGUMENT ")


def test_faults_and_overload_are_errors_to_the_app(
    serve: Callable[..., RunningServer], films: Generation
) -> None:
    def fails(ask: Any) -> None:
        raise RuntimeError("secret")

    source = AlteredSource(kinds_of(films)["nearest"], fails)
    broken = serve(altered(films, kinds={"nearest": source}), message_bytes_max=2_000).http
    reply = post(broken, "/recommend", {"user_id": "ada"})
    assert (reply.status, reply.reason) == (500, "INTERNAL")
    assert b"secret" not in reply.body
    with App(broken) as app, pytest.raises(RuntimeError, match="Error response"):
        app.recommend("ada")
    large = post(broken, "/recommend", {"user_id": "ada", "more": "m" * 2_000})
    assert (large.status, large.json["code"]) == (429, "resource_exhausted")

    slow, gate, begun = stalled(films)
    busy = serve(slow, waiting_max=0, compute_threads=1, default_timeout_ms=20_000).http
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, busy, "/recommend", {"user_id": "ada"})
        assert begun.acquire(timeout=10)
        refused = post(busy, "/recommend", {"user_id": "ada"})
        gate.set()
        assert first.result(timeout=20).status == 200
    assert (refused.status, refused.reason) == (429, "OVERLOADED")


@pytest.mark.parametrize(
    ("timeout_ms", "header"), [(20, {}), (20_000, {"connect_timeout_ms": "200"})]
)
def test_time_budget_ends_a_call(
    serve: Callable[..., RunningServer],
    films: Generation,
    timeout_ms: int,
    header: dict[str, str],
) -> None:
    """The app has no patience of its own: the server's ends its calls."""
    slow, gate, begun = stalled(films)
    address = serve(slow, default_timeout_ms=timeout_ms).http
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(post, address, "/recommend", {"user_id": "ada"}, **header)
        assert begun.acquire(timeout=10)
        threading.Timer(0.05 if not header else 5, gate.set).start()
        reply: Reply = call.result(timeout=20)
        gate.set()
    assert (reply.status, reply.json["code"]) == (504, "deadline_exceeded")


def test_keys_hold_as_for_the_method_behind(
    serve: Callable[..., RunningServer], tmp_path: Path
) -> None:
    made = {name: make_key() for name in ("phone", "other")}
    file = tmp_path / "keys.toml"
    file.write_text(
        entry(made["phone"], name="phone", scopes=["recommend"], requests_per_second=0.01, burst=1)
        + "\n"
        + entry(made["other"], name="other", scopes=["catalog"])
    )
    address = serve(api_keys_file=file).http

    def ask(key: str | None) -> tuple[int, str]:
        headers = {} if key is None else {"authorization": f"Bearer {made[key]}"}
        reply = post(address, "/recommend", {"user_id": "ada"}, **headers)
        return reply.status, "" if reply.status == 200 else reply.reason

    # The app as it is sends none.
    assert ask(None) == (401, "API_KEY_MISSING")
    assert ask("other") == (403, "SCOPE_MISSING")
    assert ask("phone") == (200, "")
    assert ask("phone") == (429, "RATE_LIMITED")


def test_path_is_not_there_unless_asked_for(serve: Callable[..., RunningServer]) -> None:
    without = serve(codelab_title=None).http
    assert post(without, "/recommend", {"user_id": "ada"}).status == 404


def test_titles_must_be_strings_of_the_bundle(serve: Callable[..., RunningServer]) -> None:
    for wrong in ("titel", "year", "genres"):
        with pytest.raises(
            NotConfigured,
            match=rf"^codelab_title: expected one of title, franchise, .* not {wrong}, ",
        ):
            serve(codelab_title=wrong)
    other = serve(codelab_title="franchise").http
    assert "Star Wars" in post(other, "/recommend", {"user_id": "ada"}).json["movies"]


def test_bundle_must_know_users_by_their_ids(
    serve: Callable[..., RunningServer], films: Generation
) -> None:
    manifest = films.bundle.manifest
    sections = {name: manifest.sections[name] for name in manifest.sections if name == "index"}
    anonymous = manifest.model_copy(update={"sections": sections})
    with pytest.raises(NotConfigured, match=r"^codelab_title: .* films 1 knows no users"):
        serve(replace(films, bundle=replace(films.bundle, manifest=anonymous)))


def test_flag_alone_takes_the_title(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = ["show-config", "--bundle", str(tmp_path), "--http", "127.0.0.1:0"]
    for flags, title in ((["--codelab"], "title"), (["--codelab", "name"], "name")):
        assert main([*shown, *flags]) == 0
        assert f'codelab_title = "{title}"' in capsys.readouterr().out
    assert main(["show-config", "--bundle", str(tmp_path), "--codelab"]) == 1
    refused = capsys.readouterr().err
    assert "codelab_title (flag --codelab-title): expected http_listen beside it" in refused
