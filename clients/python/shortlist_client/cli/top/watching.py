"""`shortlist top`: what a server does, live, by its metrics."""

from __future__ import annotations

import os
import select
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

from shortlist_client.cli.command import (
    Output,
    Subparsers,
    add_command,
    add_metrics,
    add_server,
)
from shortlist_client.cli.exit_codes import OK
from shortlist_client.cli.screen import BOLD, DIM, styled, terminal_size
from shortlist_client.cli.settings import Settings
from shortlist_client.cli.table import cut
from shortlist_client.cli.top.activity import activity, restarted
from shortlist_client.cli.top.readings import Reading, checked_url, read_metrics
from shortlist_client.cli.top.view import activity_document, activity_lines
from shortlist_client.errors import InvalidValue, Unavailable
from shortlist_client.values import number

_EPILOG = """\
examples:
  shortlist top                                   q or Ctrl-C ends it
  shortlist top --metrics http://10.0.0.5:9464/metrics --interval 5
  shortlist top --once --interval 10              one reading, of ten seconds
  shortlist top --json | jq '.methods[] | [.name, .per_s, .p99_ms]'

It reads the metrics that the server shows with `--metrics-listen`, twice, and tells the difference:
calls, their latencies, and those of each stage. The times are those of the histogram's bounds,
between which they are guessed, as Prometheus does.
"""

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""Another screen without a cursor, and back: what stood on the terminal is there again."""
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


def add_commands(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "top",
        "[options]",
        "what the server does, live: calls, latencies, stages",
        _EPILOG,
        run=_top,
    )
    # It is how one ends it, and no failure.
    parser.set_defaults(interrupted=OK)
    parser.add_argument(
        "--interval",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="time between readings (default 2)",
    )
    parser.add_argument(
        "--once", action="store_true", help="one reading, after one interval (with --json, always)"
    )
    add_metrics(parser)
    add_server(parser)


def _top(options: Namespace) -> Output:
    settings: Settings = options.settings
    url = checked_url(settings["metrics"], settings.origin("metrics"))
    if number(options.interval, "--interval") <= 0:
        raise InvalidValue.about(
            "--interval",
            reason="INVALID_VALUE",
            expected="more than 0",
            got=f"{options.interval:g}",
        )
    if settings.json or options.once:
        return _once(settings, url, options.interval)
    return _watch(url, options.interval)


def _once(settings: Settings, url: str, interval_s: float) -> str:
    before = read_metrics(url)
    time.sleep(interval_s)
    after = read_metrics(url)
    if restarted(before, after):
        raise Unavailable(f"{url}: the server was restarted between the two readings")
    seen = activity(before, after)
    if settings.json:
        return activity_document(seen)
    _, width = terminal_size()
    return "\n".join(activity_lines(seen, width_max=width))


def _watch(url: str, interval_s: float) -> Generator[str, None, None]:
    with _own_screen() as wait:
        before: Reading | None = None
        told = "reading for the first time"
        while True:
            lines: list[str] = []
            try:
                after = read_metrics(url)
            except Unavailable as error:
                told, before = str(error), None
            else:
                if before is not None and restarted(before, after):
                    told = "the server was restarted: rates come with the next reading"
                elif before is not None:
                    lines = activity_lines(activity(before, after), width_max=terminal_size()[1])
                    told = ""
                elif told != "reading for the first time":
                    told = "the server answers: rates come with the next reading"
                before = after
            yield _screen(url, interval_s, told, lines)
            if wait(interval_s):
                return


def _screen(url: str, interval_s: float, told: str, lines: list[str]) -> str:
    height, width = terminal_size()
    head = f"shortlist top  {url}  every {interval_s:g} s  {time.strftime('%H:%M:%S')}"
    # Tables are as wide as they may be; what is styled must not be cut within its style.
    shown = [line if "\x1b" in line else _cut(line, width) for line in lines]
    notes = [styled(_cut(told, width), DIM)] if told else []
    kept = [styled(_cut(head, width), BOLD), *notes, *shown]
    if height is not None:
        kept = kept[: height - 1]
    return _HOME + "".join(f"{line}{_REST_OF_LINE}\n" for line in kept) + _REST_OF_SCREEN


def _cut(line: str, width: int | None) -> str:
    return line if width is None else cut(line, width)


@contextmanager
def _own_screen() -> Iterator[Callable[[float], bool]]:
    """Enter a screen of its own, on a terminal that tells of keys at once; leave it at the end."""
    keys = _Keys()
    shows = sys.stdout.isatty()
    if shows:
        print(_ENTER, end="", flush=True)
    try:
        yield keys.wait
    finally:
        keys.restore()
        if shows:
            print(_LEAVE, end="", flush=True)


class _Keys:
    """The keyboard, where standard input is one."""

    def __init__(self) -> None:
        self._saved = None
        if sys.stdin is not None and sys.stdin.isatty():
            import termios
            import tty

            self._saved = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin)

    def wait(self, seconds: float) -> bool:
        """Wait; returns at once, and True, where somebody presses q."""
        if self._saved is None:
            time.sleep(seconds)
            return False
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select([sys.stdin], [], [], left)
            if ready and os.read(sys.stdin.fileno(), 1) in (b"q", b"Q", b""):
                return True
        return False

    def restore(self) -> None:
        if self._saved is not None:
            import termios

            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._saved)
