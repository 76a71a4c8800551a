"""Bundles behind URLs, over a real HTTP server and by file://."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from shortlist_server.errors import BundleCorrupt, BundleMissing, ConfigError
from shortlist_server.workers.object_store import ObjectStore


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def root(tiny_bundle: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_bundle, tmp_path / "store/first")
    (tmp_path / "store/no-bundle").mkdir()
    (tmp_path / "store/no-bundle/readme.txt").write_text("nothing")
    return tmp_path / "store"


@pytest.fixture(params=["file", "http"])
def url(request: pytest.FixtureRequest, root: Path) -> Iterator[str]:
    if request.param == "file":
        yield root.as_uri()
        return
    handler = functools.partial(Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_bundles_are_listed_and_downloaded(url: str, root: Path, tmp_path: Path) -> None:
    store = ObjectStore(url.rstrip("/"), tmp_path / "cache")
    (found,) = store.look()
    assert (found.folder, found.name, found.version, found.problem) == (
        Path("first"),
        "tiny",
        "1",
        "",
    )
    folder = store.fetch(found)
    assert folder == tmp_path / "cache" / found.sha256
    here = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    there = root / "first"
    assert here == sorted(path.relative_to(there) for path in there.rglob("*") if path.is_file())
    # Once: the store may go away.
    shutil.rmtree(there)
    assert store.fetch(found) == folder
    store.keep_only({folder})
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [found.sha256]
    store.keep_only(set())
    with pytest.raises(BundleMissing, match=r"first: cannot be downloaded"):
        store.fetch(found)
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("change", ["other", "longer", "shorter"])
def test_file_that_is_not_the_manifests_is_refused(
    url: str, root: Path, tmp_path: Path, change: str
) -> None:
    store = ObjectStore(url.rstrip("/"), tmp_path / "cache")
    (found,) = store.look()
    file = next((root / "first").glob("**/hnsw.bin"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes({"other": content, "longer": content + b"x", "shorter": content[:-1]}[change])
    with pytest.raises(BundleCorrupt, match=r"index/hnsw.bin: expected"):
        store.fetch(found)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name == found.sha256]


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "models/../../evil"])
def test_names_that_lead_out_of_the_folder_are_refused(
    url: str, root: Path, tmp_path: Path, name: str
) -> None:
    manifest = root / "first/manifest.json"
    document = json.loads(manifest.read_text())
    document["files"][name] = {"sha256": "0" * 64, "size_bytes": 4}
    manifest.write_text(json.dumps(document))
    (root.parent / "evil").write_text("evil")
    store = ObjectStore(url.rstrip("/"), tmp_path / "cache")
    (found,) = store.look()
    assert found.problem.startswith("manifest.json: files")
    assert not found.sha256


def test_bundle_that_has_changed_since_is_refused(url: str, root: Path, tmp_path: Path) -> None:
    store = ObjectStore(url.rstrip("/"), tmp_path / "cache")
    (found,) = store.look()
    manifest = root / "first/manifest.json"
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**document, "version": "9"}))
    with pytest.raises(BundleCorrupt, match=r"manifest.json: it has changed"):
        store.fetch(found)


def test_store_that_cannot_be_reached_keeps_what_is_known(
    url: str, root: Path, tmp_path: Path
) -> None:
    store = ObjectStore(url.rstrip("/"), tmp_path / "cache")
    before = store.look()
    root.rename(root.parent / "away")
    assert store.look() == before


def test_kind_of_url_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"bundles: nonsense://x: cannot be opened"):
        ObjectStore("nonsense://x", tmp_path / "cache")
