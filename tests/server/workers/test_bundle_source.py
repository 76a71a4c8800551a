"""Which bundle is meant, and what a folder of bundles holds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from shortlist_server.errors import BundleCorrupt, BundleMissing, ConfigError, InvalidValue
from shortlist_server.workers.bundle_folder import BundleFolder, FoundBundle
from shortlist_server.workers.bundle_source import choose, newest, open_source


def bundle(folder: str, version: str, sha256: str, problem: str = "") -> FoundBundle:
    return FoundBundle(
        folder=Path(folder), name="films", version=version, sha256=sha256, problem=problem
    )


FOUND = [
    bundle("a", "3", "f3", "index: cut"),
    bundle("b", "2", "f2"),
    bundle("c", "2", "f2-other"),
    bundle("d", "1", "f1", "index: cut"),
    bundle("e", "1", "f1"),
    FoundBundle(folder=Path("f"), problem="manifest.json: cannot be parsed"),
]


def test_bundle_is_chosen_by_what_is_said_of_it() -> None:
    assert choose(FOUND, "films", "1", "").folder == Path("e")
    assert choose(FOUND, "", "", "f2-other").folder == Path("c")
    with pytest.raises(InvalidValue, match="sha256: expected which of f2, f2-other, got none"):
        choose(FOUND, "films", "2", "")
    with pytest.raises(BundleCorrupt, match="index: cut"):
        choose(FOUND, "films", "3", "")
    with pytest.raises(BundleMissing, match="films 4: no such bundle"):
        choose(FOUND, "films", "4", "")
    with pytest.raises(BundleMissing, match="books 2 f2: no such bundle"):
        choose(FOUND, "books", "2", "f2")


def test_newest_is_one_that_can_be_served() -> None:
    assert newest(FOUND, "here").folder == Path("b")
    with pytest.raises(ConfigError, match="in here to begin with, got a: index: cut"):
        newest(FOUND[:1], "here")
    with pytest.raises(ConfigError, match="to begin with, got none"):
        newest([], "here")


def test_folder_is_looked_at_again_when_its_files_change(tiny_bundle: Path, tmp_path: Path) -> None:
    source = open_source(str(tmp_path), None)
    assert isinstance(source, BundleFolder)
    assert source.look() == []
    shutil.copytree(tiny_bundle, tmp_path / ".one")
    (tmp_path / "empty").mkdir()
    assert source.look() == []
    (tmp_path / ".one").rename(tmp_path / "one")
    (found,) = source.look()
    assert (found.name, found.version, found.problem) == ("tiny", "1", "")
    assert source.look() == [found]
    file = next((tmp_path / "one").glob("**/hnsw.bin"))
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    (found,) = source.look()
    assert found.problem.startswith("index/hnsw.bin: expected sha256")
    assert found.version == "1"
    file.write_bytes(whole)
    assert source.look()[0].problem == ""


def test_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bundles: expected a folder, got"):
        open_source(str(tmp_path / "nowhere"), None)
