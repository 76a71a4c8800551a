from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from request_logs import response_of, user, write_log
from shortlist.v1 import recommendation_pb2 as pb
from shortlist_server.errors import LogCorrupt, LogMissing
from shortlist_server.observability.log_file import finished_files
from shortlist_server.replay.reader import read_log

REQUEST = pb.RecommendRequest(query=user())


def write(folder: Path, *names: str) -> None:
    write_log(folder, [(REQUEST, response_of(name)) for name in names])


def ids(path: Path, limit: int | None = None) -> list[str]:
    return [placed.row.request_id for placed in read_log(path, limit)]


def test_folder_is_read_from_its_oldest_file_on(tmp_path: Path) -> None:
    write(tmp_path, "a", "b")
    write(tmp_path, "c")
    (tmp_path / ".requests-2.parquet.writing").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("not of the log")
    assert ids(tmp_path) == ["a", "b", "c"]
    assert ids(tmp_path, 2) == ["a", "b"]
    last = finished_files(tmp_path)[-1]
    assert ids(last) == ["c"]
    (placed,) = read_log(last)
    assert (placed.file, placed.position) == (last.name, 0)


def test_file_that_is_removed_meanwhile_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "a")
    write(tmp_path, "b")
    write(tmp_path, "c")
    rows = read_log(tmp_path)
    assert next(rows).row.request_id == "a"
    finished_files(tmp_path)[1].unlink()
    assert [placed.row.request_id for placed in rows] == ["c"]


def test_place_without_a_log_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(LogMissing, match=r"nowhere: no such file or folder"):
        read_log(tmp_path / "nowhere")
    (tmp_path / ".requests-2.parquet.writing").write_bytes(b"half")
    with pytest.raises(LogMissing, match=r"got none, and 1 unfinished"):
        read_log(tmp_path)
    write(tmp_path, "a")
    finished_files(tmp_path)[0].rename(tmp_path / "kept.parquet")
    assert ids(tmp_path / "kept.parquet") == ["a"]


def test_log_without_rows_is_told(tmp_path: Path) -> None:
    write(tmp_path, "a")
    (path,) = finished_files(tmp_path)
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    with pytest.raises(LogMissing, match="without any"):
        read_log(tmp_path)


def test_file_that_cannot_be_opened_is_refused_by_name(tmp_path: Path) -> None:
    # A folder in place of a file: permissions do not keep root out.
    (tmp_path / "requests-1.parquet").mkdir()
    with pytest.raises(LogCorrupt, match=r"requests-1\.parquet: cannot be read: Is a directory"):
        read_log(tmp_path)
