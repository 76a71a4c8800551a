"""The playground: a page that is served beside the calls, built from `clients/playground`."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from shortlist_server.errors import ConfigError

FOLDER = Path(__file__).parent / "playground_page"
"""Where `make playground` puts the page; the wheel has it, a checkout does not until then."""
PATH = "/playground/"
PORT_MARK = b"{{grpc_port}}"
"""Stands in the page for the port of gRPC, which the calls that it writes down go to."""
TYPES: Mapping[str, bytes] = {
    ".css": b"text/css; charset=utf-8",
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".txt": b"text/plain; charset=utf-8",
}
HEADERS: tuple[tuple[bytes, bytes], ...] = (
    # Nothing of another origin, nothing inline, nothing that could be framed or sent elsewhere.
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    # Asked for each time, by its tag: after an update of the server nobody sees half of each.
    (b"cache-control", b"no-cache"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageAnswer:
    """What a browser is answered."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    type: bytes
    tag: bytes
    body: bytes
    compressed: bytes


def check_built() -> None:
    """Check that the page is there.

    Raises:
        ConfigError: it has not been built.
    """
    if not (FOLDER / "index.html").is_file():
        raise ConfigError(
            f"playground: expected the built page in {FOLDER}, got none; run `make playground`, "
            "which needs Node, or install the wheel, which has it"
        )


class Playground:
    """The files of the page, in memory. They hold no secrets, and are the same for everybody: what
    a caller may do is decided where the page calls, by the key that was typed into it.
    """

    def __init__(self, folder: Path | None = None, *, grpc_port: int) -> None:
        """Read the files.

        Args:
            folder: Where they are; None for `FOLDER`.
            grpc_port: The port on which the same services answer gRPC.

        Raises:
            ConfigError: the page has not been built.
        """
        if folder is None:
            check_built()
            folder = FOLDER
        self._files = {
            file.name: _file(file, grpc_port)
            for file in sorted(folder.iterdir())
            if file.suffix in TYPES
        }

    def answer(
        self, method: str, path: str, headers: Iterable[tuple[str, str]]
    ) -> PageAnswer | None:
        """Return what is answered to a request; None where the path is none of the page's.

        Args:
            method: `GET`, ...
            path: Without the query.
            headers: Names in lower case, and values.
        """
        if path in ("/", PATH.rstrip("/")):
            # By a relative address: behind a proxy the page may stand under another path.
            place = PATH.strip("/") + "/"
            return PageAnswer(status=307, headers=(*HEADERS, (b"location", place.encode())))
        if not path.startswith(PATH):
            return None
        file = self._files.get(path.removeprefix(PATH) or "index.html")
        if file is None:
            return PageAnswer(status=404, headers=HEADERS)
        if method not in ("GET", "HEAD"):
            return PageAnswer(status=405, headers=(*HEADERS, (b"allow", b"GET, HEAD")))
        sent = dict(headers)
        fixed = (
            *HEADERS,
            (b"content-type", file.type),
            (b"etag", file.tag),
            (b"vary", b"accept-encoding"),
        )
        if file.tag.decode() in sent.get("if-none-match", ""):
            return PageAnswer(status=304, headers=fixed)
        body = file.body
        if "gzip" in sent.get("accept-encoding", ""):
            body, fixed = file.compressed, (*fixed, (b"content-encoding", b"gzip"))
        length = (b"content-length", str(len(body)).encode())
        return PageAnswer(
            status=200, headers=(*fixed, length), body=b"" if method == "HEAD" else body
        )


def _file(file: Path, grpc_port: int) -> _File:
    body = file.read_bytes().replace(PORT_MARK, str(grpc_port).encode())
    return _File(
        type=TYPES[file.suffix],
        tag=f'"{hashlib.sha256(body).hexdigest()[:16]}"'.encode(),
        body=body,
        compressed=gzip.compress(body, mtime=0),
    )
