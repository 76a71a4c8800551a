from __future__ import annotations

from pathlib import Path

import pytest
from shortlist_exporters.errors import ExportError
from shortlist_exporters.recipes.output_folder import SPEC_FILE, output_folder


def write(out: Path, text: str, *, replace: bool = False) -> None:
    with output_folder(out, replace=replace) as folder:
        (folder / SPEC_FILE).write_text(text)


def test_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with output_folder(out, replace=False) as folder:
        (folder / SPEC_FILE).write_text("new")
        assert not out.exists()
    assert (out / SPEC_FILE).read_text() == "new"
    assert list(out.parent.iterdir()) == [out]


def test_failure_leaves_nothing_and_keeps_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, "old")

    def interrupted() -> None:
        with output_folder(out, replace=True) as folder:
            (folder / SPEC_FILE).write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (out / SPEC_FILE).read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_existing_folder_is_refused_unless_it_may_be_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, "old")
    with pytest.raises(ExportError, match="--replace"):
        write(out, "new")
    assert (out / SPEC_FILE).read_text() == "old"
    write(out, "new", replace=True)
    assert (out / SPEC_FILE).read_text() == "new"
    assert list(tmp_path.iterdir()) == [out]


def test_folder_that_no_training_wrote_is_never_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("")
    with pytest.raises(ExportError, match=f"without {SPEC_FILE}"):
        write(out, "new", replace=True)
    assert (out / "thesis.tex").exists()


def test_file_at_the_destination_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("")
    for replace in (False, True):
        with pytest.raises(ExportError, match=r"out: expected"):
            write(out, "new", replace=replace)


def test_empty_folder_is_filled(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    write(out, "new")
    assert (out / SPEC_FILE).read_text() == "new"
