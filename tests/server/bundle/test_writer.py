from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_world
from shortlist_exporters.export import export_bundle
from shortlist_server.bundle.reader import open_bundle
from shortlist_server.bundle.writer import BundleWriter
from shortlist_server.errors import BundleCorrupt, BundleError


def test_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError), BundleWriter(tmp_path / "b") as writer:
        writer.json("a/b.json", [1, object()])
    assert list(tmp_path.iterdir()) == []


def test_bundle_that_does_not_verify_is_not_put_in_place(tmp_path: Path) -> None:
    def refuse(folder: Path) -> None:
        raise BundleCorrupt("not good enough")

    spec = tiny_world.write_spec(tmp_path / "spec")
    export_bundle(spec, tmp_path / "good")
    manifest = open_bundle(tmp_path / "good").manifest.model_dump(mode="json")
    del manifest["files"]
    with (
        pytest.raises(BundleCorrupt, match="not good enough"),
        BundleWriter(tmp_path / "b") as writer,
    ):
        writer.finish(manifest, verify=refuse)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good", "spec"]


def test_existing_bundle_gives_way_only_when_asked(tmp_path: Path) -> None:
    spec = tiny_world.write_spec(tmp_path / "spec")
    export_bundle(spec, tmp_path / "b", version="1")
    with pytest.raises(BundleError, match="already exists"):
        export_bundle(spec, tmp_path / "b", version="2")
    assert open_bundle(tmp_path / "b").manifest.version == "1"
    export_bundle(spec, tmp_path / "b", version="2", replace=True)
    assert open_bundle(tmp_path / "b").manifest.version == "2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "spec"]


def test_folder_that_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match=r"no manifest.json"):
        BundleWriter(tmp_path / "precious", replace=True)
    assert (tmp_path / "precious/thesis.txt").exists()


def test_killed_export_leaves_no_bundle_and_the_next_one_clears_up(tmp_path: Path) -> None:
    spec = tiny_world.write_spec(tmp_path / "spec")
    program = (
        "import os, pathlib, signal, sys\n"
        "from shortlist_server.bundle.writer import BundleWriter\n"
        "BundleWriter._put_in_place = lambda self: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from shortlist_exporters.export import export_bundle\n"
        "export_bundle(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program, spec, tmp_path / "b"], check=False, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "b").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".b.writing-")]
    export_bundle(spec, tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "spec"]


def test_bundle_that_a_killed_writer_has_moved_aside_is_put_back(tmp_path: Path) -> None:
    spec = tiny_world.write_spec(tmp_path / "spec")
    export_bundle(spec, tmp_path / "b", version="1")
    program = (
        "import pathlib, sys\n"
        "from shortlist_exporters.export import export_bundle\n"
        "export_bundle(*map(pathlib.Path, sys.argv[1:]), version='2', replace=True)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program, spec, tmp_path / "b"],
        check=False,
        capture_output=True,
        env=os.environ | {"SHORTLIST_FAULT_POINT": "bundle.before_rename:1"},
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "b").exists()
    with pytest.raises(BundleError, match="already exists"):
        BundleWriter(tmp_path / "b")
    assert open_bundle(tmp_path / "b").manifest.version == "1"
    export_bundle(spec, tmp_path / "b", version="2", replace=True)
    assert open_bundle(tmp_path / "b").manifest.version == "2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "spec"]


def test_folder_of_a_writer_that_still_runs_is_left_alone(tmp_path: Path) -> None:
    busy = tmp_path / f".b.writing-{os.getppid()}"
    busy.mkdir()
    with BundleWriter(tmp_path / "b"):
        assert busy.exists()
