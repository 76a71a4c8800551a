"""The `shortlist` command from its arguments to its exit code."""

from __future__ import annotations

import io
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import closing

from shortlist_client.cli.arguments import make_parser
from shortlist_client.cli.command import Output
from shortlist_client.cli.exit_codes import (
    FAILED,
    INTERRUPTED,
    OK,
    PARTLY,
    PIPE_CLOSED,
    exit_code,
)
from shortlist_client.cli.settings import read_settings
from shortlist_client.errors import DeadlineExceeded, Internal, ShortlistError, Unavailable

_HANDSHAKES = {
    "CERTIFICATE_VERIFY_FAILED": "its certificate is by nobody who is trusted here (--ca-file)",
    "Hostname Verification Check failed": "its certificate is for another name",
    "WRONG_VERSION_NUMBER": "it speaks no TLS (--no-tls)",
}
"""What gRPC says of a failed handshake, and what it means."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; `--help` and wrong usage leave by SystemExit.

    Args:
        arguments: Those of the command line, without the program's name. None: the process's own.
    """
    if arguments is None:
        _silence_grpc()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a title's letters gets `?`, not a traceback.
        sys.stdout.reconfigure(errors="replace")
    options: Namespace | None = None
    try:
        options = make_parser().parse_args(arguments)
        options.settings = read_settings(options)
        _print(options.run(options))
        return PARTLY if getattr(options, "partly", False) else OK
    except ShortlistError as error:
        _complain(_message(error))
        return exit_code(error)
    except KeyboardInterrupt:
        return int(getattr(options, "interrupted", INTERRUPTED))
    except OSError as error:
        return _give_up_output(error)


def _print(output: Output) -> None:
    # Flushed here, where a closed pipe is caught, and not when the interpreter leaves.
    if isinstance(output, str):
        print(output, flush=True)
        return
    with closing(output) as pieces:
        for piece in pieces:
            print(piece, end="", flush=True)


def _silence_grpc() -> None:
    """Leave stderr to Python alone.

    gRPC's core writes lines of its own there, several for one failed TLS handshake, before the
    error that we print. Its switch is GRPC_VERBOSITY, but it looks when it is imported, and that
    was before anything here could run. Whoever sets it wants to read those lines.
    """
    stderr = sys.__stderr__
    if "GRPC_VERBOSITY" in os.environ or stderr is None or sys.stderr is not stderr:
        return
    ours = os.dup(stderr.fileno())
    os.dup2(os.open(os.devnull, os.O_WRONLY), stderr.fileno())
    sys.stderr = os.fdopen(
        ours, "w", buffering=1, errors="backslashreplace", encoding=stderr.encoding
    )


def _message(error: ShortlistError) -> str:
    # The two whose cause may stand in the server's log; beside the others the id is noise.
    if isinstance(error, Internal | DeadlineExceeded):
        return f"{error} (request {error.request_id})"
    if isinstance(error, Unavailable):
        for words, means in _HANDSHAKES.items():
            if words in str(error):
                # What OpenSSL says is for those who wrote it.
                return f"{str(error).partition(': ')[0]}: {means}"
    return str(error)


def _give_up_output(error: OSError) -> int:
    # The interpreter flushes once more when it leaves: into nothing, rather than to fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        # The reader has all it wants.
        return PIPE_CLOSED
    _complain(f"cannot write the answer: {error.strerror}")
    return FAILED


def _complain(message: str) -> None:
    print("shortlist:", " ".join(message.split()), file=sys.stderr)
