"""Readings of a server's metrics."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

import grpc

from shortlist_client.cli.top.exposition import Sample, parse_metrics
from shortlist_client.errors import InvalidValue, Unavailable

TIMEOUT_S = 5.0
PAGE_BYTES_MAX = 16 * 1024 * 1024
_EVERY_SERVER_HAS = "shortlist_requests_in_flight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a server had counted at a moment."""

    time_s: float
    """Of a clock that never goes back."""
    samples: Mapping[str, list[Sample]]


def checked_url(written: str, origin: str) -> str:
    """Return the URL that somebody means, who may leave out what all of them have.

    Raises:
        InvalidValue: It is none that HTTP speaks.
    """
    url = written if "://" in written else f"http://{written}"
    try:
        parts = urllib.parse.urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname
        _ = parts.port
    except ValueError:
        known = None
    if not known or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidValue.about(
            origin,
            reason="INVALID_VALUE",
            expected="a URL such as http://127.0.0.1:9464/metrics",
            got=repr(written),
        )
    return url if parts.path not in ("", "/") else f"{url.rstrip('/')}/metrics"


def read_metrics(url: str) -> Reading:
    """Return what the server shows at a URL.

    Raises:
        Unavailable: Nobody answers there, or not with metrics of a Shortlist server.
    """
    try:
        # The URL's scheme was checked.
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310
            page = answer.read(PAGE_BYTES_MAX).decode("utf-8", errors="replace")
    except urllib.error.HTTPError as error:
        raise _unavailable(url, f"it answers {error.code} {error.reason}") from error
    except http.client.HTTPException as error:
        raise _unavailable(url, "what answers there speaks no HTTP") from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise _unavailable(url, str(getattr(reason, "strerror", None) or reason)) from error
    samples = parse_metrics(page)
    if _EVERY_SERVER_HAS not in samples:
        raise _unavailable(url, f"what answers there has no {_EVERY_SERVER_HAS}")
    return Reading(time_s=time.monotonic(), samples=samples)


def _unavailable(url: str, why: str) -> Unavailable:
    return Unavailable(
        f"no metrics at {url}: {why} (the server shows them with --metrics-listen; --metrics says "
        "where)",
        code=grpc.StatusCode.UNAVAILABLE,
    )
