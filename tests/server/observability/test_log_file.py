from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from request_logs import response_of, user, write_log
from shortlist.v1 import recommendation_pb2 as pb
from shortlist_server.errors import LogCorrupt, LogUnsupported, MissingExtra
from shortlist_server.observability import log_file
from shortlist_server.observability.log_file import FORMAT_KEY, LogFile, read_rows
from shortlist_server.observability.log_row import LogRow
from shortlist_server.observability.machine import _cpu_type, cpu_type, software


def make_row(**fields: Any) -> LogRow:
    return LogRow(
        **{
            "time_ns": 1_700_000_000_123_456_000,
            "request_id": "mine",
            "kind": "rank",
            "request": b"\0\xff",
            "masked": (),
            "item_ids": (),
            "scores": (),
            "info": b"",
            "bundle_name": "tiny",
            "bundle_version": "1",
            "bundle_sha256": "f" * 64,
            "duration_ns": 5,
            "cpu": "abacus",
            "software": "none",
        }
        | fields
    )


def written(folder: Path, rows: list[LogRow]) -> Path:
    file = LogFile(folder, rows[0].time_ns)
    file.add(rows)
    file.finish()
    return file.path


@given(
    scores=st.lists(st.floats(allow_nan=False), max_size=5),
    texts=st.lists(st.text(), min_size=5, max_size=5),
    time_us=st.integers(0, 4_000_000_000_000_000),
    request=st.binary(),
    masked=st.lists(st.text(), max_size=3),
)
def test_rows_come_back_bit_by_bit(
    tmp_path_factory: pytest.TempPathFactory,
    scores: list[float],
    texts: list[str],
    time_us: int,
    request: bytes,
    masked: list[str],
) -> None:
    row = make_row(
        time_ns=1_000 * time_us,
        request_id=texts[0],
        item_ids=tuple(texts[: len(scores)]),
        scores=tuple(scores),
        request=request,
        masked=tuple(masked),
    )
    (back,) = read_rows(written(tmp_path_factory.mktemp("log"), [row]))
    assert back == row
    count = len(scores)
    assert struct.pack(f"{count}d", *back.scores) == struct.pack(f"{count}d", *scores)


def test_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    file = LogFile(tmp_path, 0)
    file.add([make_row()])
    file.write()
    assert log_file.finished_files(tmp_path) == []
    assert file.size_bytes > 0
    file.finish()
    assert [path.name for path in tmp_path.iterdir()] == [file.path.name]


def test_left_over_file_is_removed_but_not_one_that_is_being_written(tmp_path: Path) -> None:
    being_written = LogFile(tmp_path, 0)
    left = tmp_path / ".requests-19990101T000000.000000Z-1.parquet.writing"
    left.write_bytes(b"PAR1")
    log_file.remove_left_over(tmp_path)
    assert not left.exists()
    being_written.add([make_row()])
    being_written.finish()
    assert len(list(read_rows(being_written.path))) == 1


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "requests-1.parquet"
    path.write_bytes(b"no parquet at all")
    with pytest.raises(LogCorrupt, match=r"requests-1\.parquet: expected a whole Parquet file"):
        list(read_rows(path))
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(LogCorrupt, match="got other Parquet"):
        list(read_rows(path))
    table = pa.table({"kind": ["rank"]})
    pq.write_table(table.replace_schema_metadata({FORMAT_KEY: b"1"}), path)
    with pytest.raises(LogCorrupt, match=r"got none of \['bundle_name'"):
        list(read_rows(path))


@pytest.mark.parametrize("version", [b"2", b"new"])
def test_later_format_is_refused_by_name(tmp_path: Path, version: bytes) -> None:
    path = tmp_path / "requests-1.parquet"
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({FORMAT_KEY: version}), path)
    with pytest.raises(LogUnsupported, match=f"format 1 or older, got {version.decode()}"):
        list(read_rows(path))


def test_damage_is_told_or_harmless(tmp_path: Path) -> None:
    request = pb.RecommendRequest(query=user())
    write_log(tmp_path / "log", [(request, response_of(f"{n}")) for n in range(200)])
    (path,) = log_file.finished_files(tmp_path / "log")
    content = path.read_bytes()
    broken = tmp_path / "requests-broken.parquet"
    for size in range(0, len(content), 97):
        broken.write_bytes(content[:size])
        with pytest.raises(LogCorrupt, match=r"requests-broken\.parquet"):
            list(read_rows(broken))


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for step in (lambda: list(read_rows(tmp_path / "x")), lambda: write_log(tmp_path, [])):
        with pytest.raises(MissingExtra, match=r"pip install 'shortlist\[replay\]'"):
            step()


def test_cpu_type_names_model_and_vector_instructions(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(
        "processor\t: 0\nmodel name\t: Abacus 9000\nflags\t\t: fpu avx2 fma sse\n\n"
        "processor\t: 1\nmodel name\t: Other\nflags\t\t: fpu\n"
    )
    assert _cpu_type(info).endswith(" Abacus 9000 avx2 fma")
    assert _cpu_type(tmp_path / "nowhere")
    assert cpu_type() == cpu_type()
    assert "numpy " in software()


def test_library_without_metadata_is_named_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from shortlist_server.observability import machine

    monkeypatch.setattr(machine, "LIBRARIES", ("no-such-library",))
    machine.software.cache_clear()
    try:
        assert software() == "no-such-library not installed as a package"
    finally:
        machine.software.cache_clear()
