"""A server whose items are searched in Milvus: Milvus Lite over TCP, from the load to an outage."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import rich_world
from conftest import RunningServer
from milvus_server import MilvusServer
from shortlist_client import (
    CatalogItem,
    CatalogUnavailable,
    Client,
    Event,
    Nearest,
    User,
    attribute,
)
from shortlist_exporters.export import export_bundle
from shortlist_server import cli
from shortlist_server.bundle.reader import open_bundle
from shortlist_server.config import load_config
from shortlist_server.errors import BundleCorrupt, BundleMissing, ConfigError
from shortlist_server.generation import GenerationOptions, load_generation
from shortlist_server.index.milvus import Milvus
from shortlist_server.index.milvus_options import MilvusOptions
from shortlist_server.milvus_load import load_items
from supervised import Supervised

TITLES = attribute("title").is_in(["Film 3 é", "Film 11 é"])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rich")
    export_bundle(rich_world.write_spec(folder / "spec"), folder / "bundle", version="1")
    return folder / "bundle"


@pytest.fixture(scope="module")
def own() -> Iterator[MilvusServer]:
    """A Milvus that may be stopped."""
    server = MilvusServer()
    yield server
    server.remove()


def options(server: MilvusServer, **more: Any) -> MilvusOptions:
    # Of few items, too, which a server would compare by itself.
    return MilvusOptions(**{"uri": server.uri, "timeout_s": 10.0, "scan_items_max": 0} | more)


def load(server: MilvusServer, bundle: Path, capsys: Any, *more: str) -> Any:
    file = bundle.parent / "milvus.toml"
    file.write_text(f'[milvus]\nuri = "{server.uri}"\n')
    arguments = ["--bundle", str(bundle), "--config", str(file), "--json", *more]
    assert cli.main(["load-milvus", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


@contextmanager
def served(bundle: Path, milvus: MilvusOptions | None, **settings: Any) -> Iterator[Client]:
    generation = load_generation(bundle, GenerationOptions(exact_items_max=0, milvus=milvus))
    server = RunningServer(bundle, generation, **settings)
    with Client(server.target, timeout_s=60) as client:
        yield client
    server.stop()
    generation.close()


def ids(found: Any) -> list[str]:
    return [item.id for item in found.items]


def user(name: str) -> User:
    return User(id=name, history=[Event(item_id="i1"), Event(item_id="i2")])


def test_lists_are_those_of_a_server_that_searches_by_itself(
    bundle: Path, own: MilvusServer, capsys: Any
) -> None:
    report = load(own, bundle, capsys)
    assert report["item_count"] == len(open_bundle(bundle).item_ids)
    # Other tests may have loaded it before.
    assert re.fullmatch(rf"{report['alias']}_\d+", report["collection"])
    asks: list[dict[str, Any]] = [
        {"sources": [Nearest()]},
        {"excluded_item_ids": ["i3", "i5", "i7"]},
        {"filter": attribute("genres").contains("Drama")},
        {"filter": attribute("year").between(1985, 2010), "excluded_filter": TITLES},
        {},
    ]
    with served(bundle, options(own)) as there, served(bundle, None) as here:
        for name in ("u1", "u3", "u7"):
            for asked in asks:
                expected = here.recommend(user=user(name), limit=15, exact=True, **asked)
                found = there.recommend(user=user(name), limit=15, **asked)
                assert ids(found) == ids(expected), (name, asked)
                assert not found.info.degraded
                plans = [source.plan for source in found.info.sources]
                # The second is the history's mean, as text before its plan.
                assert all("milvus ef=" in plan for plan in plans[:2]), plans


def test_a_second_load_moves_the_alias_and_the_first_can_be_dropped(
    bundle: Path, own: MilvusServer, capsys: Any
) -> None:
    first = load(own, bundle, capsys)
    with served(bundle, options(own)) as client:
        before = ids(client.recommend(user=user("u2"), limit=10))
        second = load(own, bundle, capsys, "--drop-others")
        assert second["collection"] != first["collection"]
        assert first["collection"] in second["dropped"]
        after = client.recommend(user=user("u2"), limit=10)
        assert ids(after) == before
        assert not after.info.degraded


def test_a_load_that_fails_changes_nothing_that_is_searched(
    bundle: Path, own: MilvusServer, capsys: Any
) -> None:
    served_now = load(own, bundle, capsys)["collection"]

    class Interrupted(Exception):
        pass

    def interrupt(done: int, count: int) -> None:
        raise Interrupted

    there = Milvus(options(own))
    alias = options(own).alias(open_bundle(bundle).sha256)
    before = there.collections(alias)
    with pytest.raises(Interrupted):
        load_items(there, options(own), open_bundle(bundle), told=interrupt)
    assert there.served(alias) == served_now
    assert there.collections(alias) == before
    there.close()


def test_a_bundle_that_is_not_there_or_not_whole_is_refused(
    bundle: Path, own: MilvusServer, capsys: Any
) -> None:
    elsewhere = options(own, collection_prefix="elsewhere")
    with pytest.raises(BundleMissing, match="got none; run `shortlist-server load-milvus`"):
        load_generation(bundle, GenerationOptions(milvus=elsewhere))
    there = Milvus(elsewhere)
    name = load_items(there, elsewhere, open_bundle(bundle))
    there.delete(name, [4])
    there.close()
    with pytest.raises(BundleCorrupt, match=r"expected 60 items under the alias .*, got 59"):
        load_generation(bundle, GenerationOptions(milvus=elsewhere))


def test_changes_stand_beside_what_is_in_milvus(
    bundle: Path, own: MilvusServer, capsys: Any, tmp_path: Path
) -> None:
    load(own, bundle, capsys)
    with served(bundle, options(own), catalog_store=str(tmp_path / "store")) as client:
        before = ids(client.recommend(user="u1", limit=20, sources=[Nearest()]))
        gone, moved = before[:2]
        client.delete_items([gone])
        title = {"title": "Neu", "genres": ["Drama"]}
        changes = client.upsert_items(
            [CatalogItem(id=moved, attributes=title), CatalogItem(id="new", attributes=title)]
        )
        found = client.recommend(
            user="u1", limit=60, sources=[Nearest()], min_revision=changes.revision
        )
        assert gone not in ids(found)
        assert {moved, "new"} <= set(ids(found))
        assert "milvus ef=" in found.info.sources[0].plan
        assert found.info.sources[0].plan.endswith(" and 2 changed")
        drama = attribute("genres").contains("Drama")
        found = client.recommend(user="u1", limit=60, sources=[Nearest()], filter=drama)
        assert {moved, "new"} <= set(ids(found))


def test_the_other_sources_answer_while_milvus_is_away(
    bundle: Path, own: MilvusServer, capsys: Any
) -> None:
    load(own, bundle, capsys)
    with served(bundle, options(own, timeout_s=3.0, rest_s=0.0)) as client:
        well = client.recommend(user=user("u1"), limit=10)
        assert not well.info.degraded
        dramas = ids(client.recommend(user="u1", limit=10, sources=["drama"]))

        def check(reason: str) -> None:
            found = client.recommend(user=user("u1"), limit=10)
            away = {one.source for one in found.info.degraded}
            assert away == {source.name for source in found.info.sources[:2]}
            assert {str(one.reason) for one in found.info.degraded} == {reason}
            assert ids(found) == dramas
            with pytest.raises(CatalogUnavailable) as refused:
                client.recommend(user="u1", limit=10, sources=[Nearest()])
            assert "127.0.0.1" not in str(refused.value)
            # A scan needs no Milvus.
            assert client.recommend(user="u1", limit=5, sources=[Nearest()], exact=True).items

        own.pause()
        try:
            check("OUT_OF_TIME")
        finally:
            own.resume()
        own.stop()
        try:
            check("FAILED")
            # Nor does a server that starts now.
            with served(bundle, options(own, timeout_s=0.5)) as late:
                assert ids(late.recommend(user=user("u1"), limit=10)) == dramas
        finally:
            own.start()
            there = Milvus(options(own))
            there.make_searchable(options(own).alias(open_bundle(bundle).sha256))
            there.close()
        for _ in range(200):
            again = client.recommend(user=user("u1"), limit=10)
            if not again.info.degraded:
                break
            time.sleep(0.05)
        assert ids(again) == ids(well)


def test_workers_search_in_milvus_each_by_its_own_connection(
    bundle: Path, own: MilvusServer, capsys: Any, tmp_path: Path
) -> None:
    load(own, bundle, capsys)
    (tmp_path / "bundles").mkdir()
    settings = {"URI": own.uri, "SCAN_ITEMS_MAX": "0", "TIMEOUT_MS": "10000"}
    with Supervised(
        tmp_path,
        *("--workers", "2"),
        bundle=bundle,
        environment={f"SHORTLIST_SERVER_MILVUS__{name}": value for name, value in settings.items()},
    ) as server:
        for _ in range(6):
            answer = server.ask("u1")
            assert answer.info.sources[0].plan.startswith("milvus ef=")
            assert not answer.info.degraded


def test_settings_that_do_not_fit_are_refused_by_name(
    bundle: Path, tmp_path: Path, capsys: Any
) -> None:
    flags = {"bundle": bundle, "catalog_store": "store", "state_dir": tmp_path}
    there = {"uri": "http://127.0.0.1:19530"}
    assert load_config(None, flags | {"milvus": there}).compaction_rows == 0
    with pytest.raises(ConfigError, match=r"compact_at .*expected 0, or none, with milvus, got 9"):
        load_config(None, flags | {"milvus": there, "compact_at": 9})
    for uri in ("127.0.0.1:19530", "ftp://host:1", "http://host"):
        with pytest.raises(ConfigError, match=r"milvus\.uri .*expected an address like"):
            load_config(None, flags | {"milvus": {"uri": uri}})
    with pytest.raises(ConfigError, match="without a password") as refused:
        load_config(None, flags | {"milvus": {"uri": "http://root:secret@host:19530"}})
    assert "secret" not in str(refused.value)
    (tmp_path / "token").write_text("root:open-sesame\n")
    config = load_config(None, flags | {"milvus": there | {"token_file": tmp_path / "token"}})
    assert config.milvus is not None
    made = config.milvus.options()
    assert made.token == "root:open-sesame"
    assert "open-sesame" not in repr(made)
    assert cli.main(["load-milvus", "--bundle", str(bundle)]) == 1
    assert "milvus: expected a section" in capsys.readouterr().err
