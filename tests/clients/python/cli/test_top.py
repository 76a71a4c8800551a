"""`shortlist top`: what readings of metrics say, and what is told where there are none."""

from __future__ import annotations

import json
import math
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from shortlist_client.cli.top.activity import activity, quantile, restarted
from shortlist_client.cli.top.exposition import Sample, parse_metrics
from shortlist_client.cli.top.readings import Reading, checked_url
from shortlist_client.errors import InvalidValue

Run = Callable[..., int]
COMMAND = [sys.executable, "-m", "shortlist_client.cli"]


def page(calls: int, *, slow: int = 0, began: float = 1.0, more: str = "") -> str:
    """A page on which `calls` took at most 10 ms, and `slow` others at most 100 ms."""
    total = calls + slow
    return f"""\
# TYPE shortlist_requests_total counter
shortlist_requests_in_flight 3.0
shortlist_requests_total{{code="OK",method="Recommend"}} {calls}
shortlist_requests_total{{code="INTERNAL",method="Recommend"}} {slow}
shortlist_request_duration_seconds_bucket{{le="0.01",method="Recommend"}} {calls}
shortlist_request_duration_seconds_bucket{{le="0.1",method="Recommend"}} {total}
shortlist_request_duration_seconds_bucket{{le="+Inf",method="Recommend"}} {total}
shortlist_stages_total{{outcome="OK",stage="query"}} {total}
shortlist_stages_total{{outcome="SKIPPED",stage="rerank"}} {total}
shortlist_stages_total{{outcome="FAILED",stage="rerank"}} {slow}
shortlist_degraded_total{{reason="NO_TIME",stage="rerank"}} {slow}
shortlist_bundle_info{{name="films",sha256="ab",version="7"}} 1.0
process_start_time_seconds {began}
{more}
"""


def reading(time_s: float, text: str) -> Reading:
    return Reading(time_s=time_s, samples=parse_metrics(text))


def test_samples_are_read_with_their_labels() -> None:
    text = '# HELP a b\na 1\nb{c="d\\"\\n\\\\",e=""} +Inf 123\nc{le="0.5"} 2e-3\nnonsense\nd x\n'
    assert parse_metrics(text) == {
        "a": [Sample({}, 1.0)],
        "b": [Sample({"c": 'd"\n\\', "e": ""}, math.inf)],
        "c": [Sample({"le": "0.5"}, 0.002)],
    }


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.75, 2.0), (0.99, 3.0)]
)
def test_quantiles_are_those_of_prometheus(share: float, expected: float) -> None:
    assert quantile(share, {1.0: 4, 3.0: 8, math.inf: 8.0}) == pytest.approx(expected, abs=0.05)


def test_a_quantile_beyond_all_bounds_is_the_last_one_and_of_nothing_there_is_none() -> None:
    assert quantile(0.99, {1.0: 0, math.inf: 5}) == 1.0
    assert quantile(0.5, {1.0: 0, math.inf: 0}) is None
    assert quantile(0.5, {}) is None


def test_rates_and_latencies_are_of_the_time_between_two_readings() -> None:
    before, after = reading(10, page(1_000, slow=500)), reading(12, page(1_190, slow=510))
    seen = activity(before, after)
    assert seen.interval_s == 2
    (recommend,) = seen.methods
    assert (recommend.name, recommend.per_s, recommend.failed_per_s) == ("Recommend", 100, 5)
    # Half of 190 + 10 calls within 10 ms; the last 2 of 10 among those of up to 100 ms.
    assert recommend.p50_ms == pytest.approx(10 * 100 / 190)
    assert recommend.p99_ms == pytest.approx(10 + 90 * 8 / 10)
    assert [(stage.name, stage.per_s, stage.failed_per_s) for stage in seen.stages] == [
        ("query", 100, 0),
        ("rerank", 105, 5),
    ]
    # Nothing was timed under this name.
    assert seen.stages[0].p50_ms is None
    assert seen.degraded == {"rerank: NO_TIME": 5}
    assert (seen.in_flight, seen.bundle) == (3, "films 7")
    assert (seen.workers, seen.generation, seen.queued, seen.catalog) == (None, None, None, ())


def test_workers_are_one_server_and_the_one_that_is_behind_is_told() -> None:
    more = """\
shortlist_workers 2
shortlist_worker_restarts_total 1
shortlist_generation{worker="1"} 4
shortlist_generation{worker="2"} 3
shortlist_catalog_revision{label="stable",worker="1"} 17
shortlist_catalog_revision{label="stable",worker="2"} 16
shortlist_catalog_store_age_seconds{label="stable",worker="1"} 0.1
shortlist_catalog_store_age_seconds{label="stable",worker="2"} 2.5
shortlist_catalog_tail_rows{label="stable",worker="1"} 5
process_resident_memory_bytes{worker="1"} 1e6
process_resident_memory_bytes{worker="2"} 2e6
"""
    seen = activity(reading(1, page(1, more=more)), reading(2, page(1, more=more)))
    assert (seen.workers, seen.worker_restarts, seen.generation) == (2, 1, 4)
    (state,) = seen.catalog
    assert (state.label, state.revision, state.store_age_s, state.tail_rows) == (
        *("stable", 16, 2.5),
        5,
    )
    assert seen.memory_bytes == 3_000_000
    assert seen.methods == ()


def test_a_restart_is_seen_by_counters_that_fall_and_by_when_the_process_began() -> None:
    before = reading(1, page(10))
    assert restarted(before, reading(2, page(9)))
    assert restarted(before, reading(2, "shortlist_requests_in_flight 0"))
    assert restarted(before, reading(2, page(11, began=2.0)))
    assert not restarted(before, reading(2, page(10)))


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("h:1", "http://h:1/metrics"),
        ("http://h:1/", "http://h:1/metrics"),
        ("https://h/other", "https://h/other"),
    ],
)
def test_a_url_may_leave_out_what_all_have(written: str, url: str) -> None:
    assert checked_url(written, "--metrics") == url


@pytest.mark.parametrize("written", ["file:///etc/passwd", "http://", "http://h:x", "http://a b"])
def test_what_is_no_url_is_refused(written: str) -> None:
    with pytest.raises(InvalidValue, match="--metrics: expected a URL"):
        checked_url(written, "--metrics")


class Pages:
    """An endpoint that shows one page after the other, and the last one from then on."""

    def __init__(self, *pages: str) -> None:
        left = list(pages)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = (left.pop(0) if len(left) > 1 else left[0]).encode()
                self.send_response(200 if content else 503)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def show() -> Iterator[Callable[..., str]]:
    """Shows pages; returns where."""
    running: list[Pages] = []

    def start(*pages: str) -> str:
        running.append(Pages(*pages))
        return running[-1].address

    yield start
    for one in running:
        one.stop()


QUICKLY = ("--interval", "0.01")


def test_one_reading_is_printed_as_a_table_and_as_json(
    shortlist: Run, show: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    pages = page(10), page(20)
    assert shortlist("top", "--once", "--metrics", show(*pages), *QUICKLY) == 0
    first, second, _, header, row, *_ = capsys.readouterr().out.splitlines()
    assert first == "films 7"
    assert second.endswith(" calls/s · 3 in flight")
    assert header.split() == ["method", "per", "s", "failed", "p50", "ms", "p99", "ms"]
    assert row.split()[0] == "Recommend"
    assert row.split()[2:] == ["0", "5.00", "9.90"]
    assert shortlist("top", "--json", "--metrics", show(*pages), *QUICKLY) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["methods"][0]["p50_ms"] == 5
    assert printed["methods"][0]["per_s"] == pytest.approx(10 / printed["interval_s"])


@pytest.mark.parametrize(
    ("pages", "complaint"),
    [
        ((page(20), page(10)), "the server was restarted between the two readings"),
        (("",), "it answers 503 Service Unavailable"),
        (("<html>",), "what answers there has no shortlist_requests_in_flight"),
    ],
)
def test_what_gives_no_rates_is_told(
    shortlist: Run,
    show: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    pages: tuple[str, ...],
    complaint: str,
) -> None:
    assert shortlist("top", "--once", "--metrics", show(*pages), *QUICKLY) == 5
    out, err = capsys.readouterr()
    assert out == ""
    assert complaint in err
    assert err.count("\n") == 1


def test_an_endpoint_that_is_not_there_and_a_port_of_grpc_are_told(
    shortlist: Run, fake_server: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shortlist("top", "--once", "--metrics", "127.0.0.1:1") == 5
    assert "Connection refused (the server shows them with --metrics-listen" in (
        capsys.readouterr().err
    )
    target = os.environ["SHORTLIST_TARGET"]
    assert shortlist("top", "--once", "--metrics", target) == 5
    assert f"no metrics at http://{target}/metrics: " in capsys.readouterr().err
    assert shortlist("top", "--interval", "0") == 2


def test_a_terminal_is_refreshed_in_place_and_told_of_a_restart(
    environment: dict[str, str], show: Callable[..., str]
) -> None:
    address = show(page(10), page(20), page(5), "", page(7), page(9))
    del environment["SHORTLIST_OUTPUT"]
    terminal, slave = os.openpty()
    run = subprocess.Popen(
        [*COMMAND, "top", "--metrics", address, "--interval", "0.05"],
        env={**environment, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"},
        stdin=slave,
        stdout=slave,
    )
    os.close(slave)
    written = ""
    wanted = [
        *("\x1b[?1049h", "reading for the first time", "films 7"),
        *("restarted: rates come", "503 Service Unavailable", "rates come with", "films 7"),
    ]
    place = 0
    for words in wanted:
        while (found := written.find(words, place)) < 0:
            assert select.select([terminal], [], [], 20)[0], f"no {words!r} in {written[place:]!r}"
            written += os.read(terminal, 65_536).decode()
        place = found + len(words)
    os.write(terminal, b"q")
    while True:
        try:
            written += os.read(terminal, 65_536).decode()
        except OSError:  # Linux's end of a terminal whose other side is closed.
            break
    os.close(terminal)
    assert run.wait(timeout=20) == 0
    # The screen before it is there again, and so is the cursor.
    assert written.endswith("\x1b[?25h\x1b[?1049l")


def test_ctrl_c_is_how_one_ends_it(environment: dict[str, str], show: Callable[..., str]) -> None:
    del environment["SHORTLIST_OUTPUT"]
    master, slave = os.openpty()
    run = subprocess.Popen(
        [*COMMAND, "top", "--metrics", show(page(1))],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=subprocess.PIPE,
    )
    os.close(slave)
    written = b""
    while b"films 7" not in written and b"first time" not in written:
        written += os.read(master, 65_536)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=20)
    os.close(master)
    assert (run.returncode, errors) == (0, b"")
