"""The `shortlist` command from its arguments to its exit code."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from shortlist_client.cli.arguments import make_parser
from shortlist_client.errors import (
    DeadlineExceeded,
    Internal,
    InvalidRequestError,
    PermissionDenied,
    ShortlistError,
    Unauthenticated,
)

OK, FAILED, REFUSED = 0, 1, 2
# What a shell reports for a program that died of SIGINT or SIGPIPE: 128 + the signal's number.
INTERRUPTED, PIPE_CLOSED = 130, 141


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
    try:
        options = make_parser().parse_args(arguments)
        output = options.run(options)
        # Flushed here, where a closed pipe is caught, and not when the interpreter leaves.
        if isinstance(output, str):
            print(output, flush=True)
        else:
            for piece in output:
                print(piece, end="", flush=True)
        if getattr(options, "failed", False):
            return REFUSED
    except ShortlistError as error:
        _complain(_message(error))
        refused = isinstance(error, InvalidRequestError | Unauthenticated | PermissionDenied)
        return REFUSED if refused else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        return _give_up_output(error)
    return OK


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
