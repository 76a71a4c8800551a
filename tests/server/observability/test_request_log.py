from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from request_logs import response_of, user, write_log
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist_server.errors import ConfigError
from shortlist_server.observability import log_file, request_log
from shortlist_server.observability.log_file import LogFile, finished_files
from shortlist_server.observability.log_row import LogRow
from shortlist_server.observability.masking import Masking
from shortlist_server.observability.request_log import RequestLog, RequestLogOptions

REQUEST = pb.RecommendRequest(query=user(), limit=3)


def rows_of(folder: Path) -> list[LogRow]:
    return [row for path in finished_files(folder) for row in log_file.read_rows(path)]


def exchanges(count: int) -> list[tuple[Any, Any]]:
    return [(REQUEST, response_of(f"request-{number}")) for number in range(count)]


def incompressible(size: int) -> pb.RecommendRequest:
    request = pb.RecommendRequest(query=user())
    request.exclusions.item_ids.append(os.urandom(size // 2).hex())
    return request


def test_rows_say_what_was_asked_and_answered(tmp_path: Path) -> None:
    log = write_log(tmp_path / "new/log", exchanges(2_500))
    rows = rows_of(tmp_path / "new/log")
    assert [row.request_id for row in rows] == [f"request-{number}" for number in range(2_500)]
    first = rows[0]
    assert pb.RecommendRequest.FromString(first.request) == REQUEST
    assert first.item_ids == ("item-0", "item-1", "item-2")
    assert first.scores == (1 / 3, 1 / 4, 1 / 5)
    assert (first.kind, first.bundle_name, first.duration_ns) == ("recommend", "none", 1_000)
    assert (log.written_count, log.dropped_count) == (2_500, 0)


def test_half_of_the_requests_are_kept_and_always_the_same_half(tmp_path: Path) -> None:
    kept = []
    for name in ("one", "two"):
        write_log(tmp_path / name, exchanges(2_000), share=0.5)
        kept.append([row.request_id for row in rows_of(tmp_path / name)])
    assert kept[0] == kept[1]
    assert 900 < len(kept[0]) < 1_100
    write_log(tmp_path / "fewer", exchanges(2_000), share=0.25)
    assert {row.request_id for row in rows_of(tmp_path / "fewer")} < set(kept[0])


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (1.0, 300)])
def test_share_of_none_and_of_all(tmp_path: Path, share: float, count: int) -> None:
    assert write_log(tmp_path, exchanges(300), share=share).written_count == count


class Stalled:
    """A sleep in which the writer stays until it is let go."""

    def __init__(self) -> None:
        self.reached, self.released = threading.Event(), threading.Event()

    def __call__(self, seconds: float) -> None:
        self.reached.set()
        self.released.wait(20)


@pytest.mark.parametrize("bound", [{"waiting_max": 10}, {"waiting_bytes_max": 6_000}])
def test_full_queue_drops_and_counts_and_says_so(
    tmp_path: Path,
    bound: dict[str, int],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_log, "WORK_S", 0.0)
    stalled = Stalled()
    options = RequestLogOptions(folder=tmp_path, masking=Masking("keep"), **bound)
    log = RequestLog(options, sleep=stalled)
    response = response_of("first")
    log.record(REQUEST, response.items, response.info, 1)
    assert stalled.reached.wait(10)
    for request, response in exchanges(50):
        log.record(request, response.items, response.info, 1)
    assert 35 <= log.dropped_count <= 41
    dropped = log.dropped_count
    with caplog.at_level(logging.WARNING):
        stalled.released.set()
        log.close()
    assert len(rows_of(tmp_path)) == log.written_count == 51 - dropped
    said = [record.getMessage() for record in caplog.records]
    assert (
        f"the request log dropped {dropped} requests since it last said so, {dropped} in all"
        in said
    )
    assert f"the request log dropped {dropped} requests in all" in said


def test_folder_stays_below_its_bound_and_keeps_the_newest(tmp_path: Path) -> None:
    bytes_max = 1 << 20
    total = 0
    largest = 0
    for number in range(30):
        write_log(
            tmp_path,
            [(incompressible(20_000), response_of(f"{number}-{part}")) for part in range(10)],
            bytes_max=bytes_max,
        )
        size = sum(path.stat().st_size for path in tmp_path.iterdir())
        total += 10 * 10_000
        largest = max(largest, size)
    assert total > 2 * bytes_max
    assert bytes_max // 2 < largest <= bytes_max
    kept = [row.request_id for row in rows_of(tmp_path)]
    assert kept[-1] == "29-9"
    assert "0-0" not in kept


def test_files_end_at_their_size_and_none_is_much_larger(tmp_path: Path) -> None:
    options = RequestLogOptions(folder=tmp_path, masking=Masking("keep"), bytes_max=1 << 20)
    exchanged = [(incompressible(30_000), response_of(f"{part}")) for part in range(60)]
    write_log(tmp_path, exchanged, bytes_max=1 << 20)
    sizes = [path.stat().st_size for path in finished_files(tmp_path)]
    assert len(sizes) > 3
    assert max(sizes) <= 2 * options.file_bytes_max
    assert sum(sizes) <= 1 << 20


def test_files_end_at_their_number_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_log, "FILE_ROWS_MAX", 40)
    write_log(tmp_path, exchanges(100))
    files = finished_files(tmp_path)
    assert [len(list(log_file.read_rows(path))) for path in files] == [40, 40, 20]


def test_file_is_finished_when_it_is_old_though_no_request_comes(tmp_path: Path) -> None:
    log = RequestLog(RequestLogOptions(folder=tmp_path, masking=Masking("keep"), file_s=0.05))
    finished = threading.Event()
    finish = LogFile.finish

    def watched(file: LogFile) -> None:
        finish(file)
        finished.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LogFile, "finish", watched)
        for request, response in exchanges(3):
            log.record(request, response.items, response.info, 1)
        assert finished.wait(10)
    assert len(rows_of(tmp_path)) == 3
    log.close()


def test_request_larger_than_a_file_should_be_is_dropped(tmp_path: Path) -> None:
    log = write_log(
        tmp_path,
        [(incompressible(40_000), response_of("large")), (REQUEST, response_of("small"))],
        bytes_max=1 << 20,
    )
    assert [row.request_id for row in rows_of(tmp_path)] == ["small"]
    assert log.dropped_count == 1


def test_disk_that_fails_loses_a_file_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(request_log, "FILE_ROWS_MAX", 50)
    finish, failures = LogFile.finish, [OSError(28, "No space left on device")]

    def failing(file: LogFile) -> None:
        if failures:
            raise failures.pop()
        finish(file)

    monkeypatch.setattr(LogFile, "finish", failing)
    log = write_log(tmp_path, exchanges(120))
    assert [row.request_id for row in rows_of(tmp_path)] == [
        f"request-{number}" for number in range(50, 120)
    ]
    assert (log.written_count, log.dropped_count) == (70, 50)
    assert not list(tmp_path.glob(".*"))
    assert {(record.levelname, record.exc_info) for record in caplog.records} == {("WARNING", None)}
    # While it works, or when it is closed: whichever comes first.
    (said,) = [text for text in caplog.messages if "it cannot write" in text]
    assert said.startswith("the request log dropped 50 requests")
    assert said.endswith("; it cannot write: [Errno 28] No space left on device")


def test_disk_that_goes_on_failing_is_one_warning_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, now_s, said = tmp_path / "log", [0.0], threading.Semaphore(0)
    log = RequestLog(
        RequestLogOptions(folder=folder, masking=Masking("keep")), clock=lambda: now_s[0]
    )
    folder.rmdir()
    caplog.handler.addFilter(lambda _: said.release() or True)
    for minute in range(3):
        now_s[0] = 61.0 * minute
        for request, response in exchanges(20):
            log.record(request, response.items, response.info, 1)
        assert said.acquire(timeout=10)
    log.close()
    assert log.dropped_count == 60
    assert [(record.levelname, record.exc_info) for record in caplog.records] == [
        ("WARNING", None)
    ] * 4  # one a minute, and the sum
    for record in caplog.records[:3]:
        assert "it cannot write: [Errno 2] No such file or directory" in record.getMessage()


def test_fault_of_the_log_itself_is_an_error_with_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(file: LogFile) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(LogFile, "finish", broken)
    log = write_log(tmp_path, exchanges(7))
    assert log.dropped_count == 7
    fault = caplog.records[0]
    assert (fault.levelname, fault.getMessage()) == (
        "ERROR",
        "the request log lost 7 requests: a bug",
    )
    assert fault.exc_info


def test_folder_that_goes_away_loses_requests_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    log = RequestLog(RequestLogOptions(folder=folder, masking=Masking("keep")))
    folder.rmdir()
    for request, response in exchanges(5):
        log.record(request, response.items, response.info, 1)
    log.close()
    assert (log.written_count, log.dropped_count) == (0, 5)


def test_closed_log_takes_nothing_and_may_be_closed_again(tmp_path: Path) -> None:
    log = write_log(tmp_path, exchanges(1))
    response = response_of("late")
    log.record(REQUEST, response.items, response.info, 1)
    log.close()
    assert len(rows_of(tmp_path)) == 1


def test_what_explains_an_answer_is_not_kept(tmp_path: Path) -> None:
    response = response_of("explained")
    response.info.answered_query.embedding_source = "two_tower"
    response.info.model_inputs.add(model="ranker")
    write_log(tmp_path, [(REQUEST, response)])
    (row,) = rows_of(tmp_path)
    info = types.AnswerInfo.FromString(row.info)
    assert info.request_id == "explained"
    assert not info.HasField("answered_query")
    assert not info.model_inputs


def test_files_are_for_owner_and_group(tmp_path: Path) -> None:
    write_log(tmp_path, exchanges(1))
    (path,) = finished_files(tmp_path)
    assert path.stat().st_mode & 0o777 & ~0o640 == 0


def test_folder_that_cannot_be_written_to_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ConfigError, match=r"request_log: expected a folder to write to, got .*file"
    ):
        write_log(tmp_path / "file", [])
