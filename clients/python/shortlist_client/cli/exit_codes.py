"""What the command's exit code says."""

from __future__ import annotations

from shortlist_client import errors

OK = 0
FAILED = 1
REFUSED = 2
"""Wrong usage, too: argparse has no other code for it."""
FORBIDDEN = 3
NOT_FOUND = 4
UNAVAILABLE = 5
TOO_LATE = 6
BUSY = 7
NOT_NOW = 8
PARTLY = 9
# What a shell reports for a program that died of SIGINT or SIGPIPE: 128 + the signal's number.
INTERRUPTED, PIPE_CLOSED = 130, 141

HELP = """\
exit codes:
  0    done
  1    a fault of the server, or the output cannot be written
  2    wrong usage, or the request is refused for what it says
  3    refused for who asks: no API key, a wrong one, or one that does not open this
  4    there is no such item, conversation or bundle
  5    nobody answers, the server is stopping, or what it needs is not there now
  6    no answer in time
  7    the server is too busy, or asked too often by this key
  8    not as the server is set up or stands now: a bundle that cannot be served, another switch
  9    done in part: the others were refused
  130  interrupted by Ctrl-C
  141  the reader of the output closed the pipe
"""

_CODES: tuple[tuple[type[errors.ShortlistError], int], ...] = (
    (errors.InvalidRequestError, REFUSED),
    (errors.Unauthenticated, FORBIDDEN),
    (errors.PermissionDenied, FORBIDDEN),
    (errors.NotFound, NOT_FOUND),
    (errors.BundleMissing, NOT_FOUND),
    (errors.Unavailable, UNAVAILABLE),
    (errors.DeadlineExceeded, TOO_LATE),
    (errors.Overloaded, BUSY),
    (errors.LabelNotLoaded, NOT_NOW),
    (errors.CatalogReadOnly, NOT_NOW),
    (errors.BundleRefused, NOT_NOW),
    (errors.NotConfigured, NOT_NOW),
    (errors.SwitchUnderWay, NOT_NOW),
)


def exit_code(error: errors.ShortlistError) -> int:
    """Return the exit code of a command that ends with an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)
