"""API keys: how they are made, kept as SHA-256, found, and read again when their file changes."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import math
import re
import secrets
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from shortlist_server.access.token_bucket import TokenBucket
from shortlist_server.errors import ConfigError
from shortlist_server.file_watch import FileWatch

logger = logging.getLogger(__name__)

KEY_BYTES = 32
PREFIX = "sl_"
"""By it people and secret scanners tell a key from other texts."""
KEYS_MAX = 1_000
"""Most keys of a file. Each call compares with all of them: about 0.05 µs for each."""
NAME_CHARACTERS_MAX = 64
REQUESTS_PER_SECOND_MAX = 1_000_000

_KEY = re.compile(r"sl_[A-Za-z0-9_-]{43}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9_.-]+")


MakeBucket: TypeAlias = Callable[[bytes, float, int], TokenBucket]
"""Takes a key's SHA-256, its tokens per second, and its burst."""


class Scope(StrEnum):
    """What a key opens. `docs/security.md` says which calls ask for which."""

    RECOMMEND = "recommend"
    EXPLAIN = "explain"
    DEBUG = "debug"
    RERANK = "rerank"
    CATALOG = "catalog"
    ADMIN = "admin"
    REFLECTION = "reflection"
    CHANNELZ = "channelz"
    PLAYGROUND = "playground"


IMPLIED: Mapping[Scope, frozenset[Scope]] = {
    Scope.PLAYGROUND: frozenset({Scope.RECOMMEND, Scope.EXPLAIN, Scope.DEBUG}),
}
"""What scopes open beside what asks for them by name: the playground all that its page calls, and
neither what costs money nor what changes anything.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """One entry of the file."""

    name: str
    """By which logs call it; never the key itself."""
    digest: bytes
    """SHA-256 of the key."""
    scopes: frozenset[Scope]
    """Those of the entry, and what they imply."""
    bucket: TokenBucket | None
    """None: no limit."""


def make_key() -> str:
    """Return a new key: `sl_` and 256 random bits as 43 characters of base64url."""
    return PREFIX + secrets.token_urlsafe(KEY_BYTES)


def digest_of(key: str) -> bytes:
    """Return the SHA-256 of a key. A slow hash would protect guessable passwords; 256 random bits
    cannot be guessed, and each call hashes.
    """
    return hashlib.sha256(key.encode()).digest()


def entry(
    key: str,
    *,
    name: str,
    scopes: Iterable[str],
    requests_per_second: float | None = None,
    burst: int | None = None,
) -> str:
    """Return the TOML of a key's entry, which has its hash alone.

    Raises:
        ConfigError: a value is not what the file takes.
    """
    fields: dict[str, Any] = {
        "name": name,
        "sha256": digest_of(key).hex(),
        "scopes": list(scopes),
        "requests_per_second": requests_per_second,
        "burst": burst,
    }
    given = {field: value for field, value in fields.items() if value is not None}
    _api_key(given, "make-key")
    return "[[key]]\n" + "".join(f"{field} = {json.dumps(given[field])}\n" for field in given)


class KeyStore:
    """The keys of a file, as it is now."""

    def __init__(
        self,
        file: Path,
        now: Callable[[], float] = time.monotonic,
        make_bucket: MakeBucket | None = None,
    ) -> None:
        """Read the file.

        Args:
            file: TOML, a `[[key]]` table for each key.
            now: The clock, in seconds.
            make_bucket: Makes the bucket of a key; None for one that this process has alone.

        Raises:
            ConfigError: the file cannot be read, or an entry is wrong; the message names both.
        """
        self._file = file
        self._make_bucket = make_bucket or _own_bucket
        self._watch = FileWatch(file, now=now)
        self._keys = read_keys(file, make_bucket=self._make_bucket)

    def find(self, key: str) -> ApiKey | None:
        """Return the entry of a key that a caller presents; None where there is none.

        How long it takes tells nothing of the keys: what is compared is a hash that the caller
        cannot steer, always with every entry, and each time over its whole length
        (`hmac.compare_digest`). A dict by hash would be faster and hardly less safe, but needs an
        argument about how Python compares; this needs none.
        """
        self._look()
        # Refused before it is hashed, so that the hash of a weak word in the file opens nothing.
        if _KEY.fullmatch(key) is None:
            return None
        digest, found = digest_of(key), None
        for candidate in self._keys:
            if hmac.compare_digest(candidate.digest, digest):
                found = candidate
        return found

    def _look(self) -> None:
        """Read the file again if it has changed; a broken one changes nothing."""
        if not self._watch.changed():
            return
        try:
            self._keys = read_keys(self._file, self._keys, self._make_bucket)
        except ConfigError as error:
            logger.error("api_keys_file: the keys stay as they were: %s", error)
            return
        logger.info("api_keys_file: read again, %d keys", len(self._keys))


def _own_bucket(digest: bytes, per_second: float, burst: int) -> TokenBucket:
    return TokenBucket(per_second, burst)


def read_keys(
    file: Path, before: Iterable[ApiKey] = (), make_bucket: MakeBucket = _own_bucket
) -> tuple[ApiKey, ...]:
    """Return the keys of a file.

    Args:
        file: The file.
        before: The keys until now: where a key's limit is as it was, what it has used of it stays.
        make_bucket: Makes the bucket of a key.

    Raises:
        ConfigError: the file cannot be read, or an entry is wrong.
    """
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: expected TOML: {error}") from error
    entries = document.pop("key", None)
    if document:
        raise ConfigError(f"{file}: expected [[key]] tables only, got {_shown(sorted(document))}")
    if not isinstance(entries, list) or not 1 <= len(entries) <= KEYS_MAX:
        got = len(entries) if isinstance(entries, list) else "none"
        raise ConfigError(f"{file}: expected 1..{KEYS_MAX} [[key]] tables, got {got}")
    buckets = {key.digest: key.bucket for key in before}
    keys: list[ApiKey] = []
    names: set[str] = set()
    digests: set[bytes] = set()
    for number, table in enumerate(entries, start=1):
        key = _api_key(table, f"{file}: key {number}", buckets, make_bucket)
        if key.name in names:
            raise ConfigError(f"{file}: key {number}: name: expected another, got {key.name} twice")
        if key.digest in digests:
            raise ConfigError(f"{file}: key {number}: sha256: {key.name} is a key named before")
        names.add(key.name)
        digests.add(key.digest)
        keys.append(key)
    return tuple(keys)


def _api_key(
    table: Any,
    where: str,
    buckets: Mapping[bytes, TokenBucket | None] | None = None,
    make_bucket: MakeBucket = _own_bucket,
) -> ApiKey:
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: expected a table, got {type(table).__name__}")
    known = {"name", "sha256", "scopes", "requests_per_second", "burst"}
    if unknown := sorted(set(table) - known):
        raise ConfigError(f"{where}: expected {', '.join(sorted(known))}, got {_shown(unknown)}")
    name, sha256, scopes = table.get("name"), table.get("sha256"), table.get("scopes")
    if (
        not isinstance(name, str)
        or not _NAME.fullmatch(name)
        or len(name) > NAME_CHARACTERS_MAX
        or _KEY.search(name)
    ):
        raise ConfigError(
            f"{where}: name: expected 1..{NAME_CHARACTERS_MAX} letters, digits, '_', '.' or '-', "
            f"got {_shown(name)}"
        )
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise ConfigError(
            f"{where}: sha256: expected 64 hexadecimal digits in lower case, as "
            "`shortlist-server make-key` prints them, got something else"
        )
    if not isinstance(scopes, list) or not scopes or not set(map(str, scopes)) <= set(Scope):
        raise ConfigError(
            f"{where}: scopes: expected a list of {', '.join(Scope)}, got {_shown(scopes)}"
        )
    digest = bytes.fromhex(sha256)
    return ApiKey(
        name=name,
        digest=digest,
        scopes=_with_implied(map(Scope, scopes)),
        bucket=_bucket(table, where, (buckets or {}).get(digest), partial(make_bucket, digest)),
    )


def _with_implied(scopes: Iterable[Scope]) -> frozenset[Scope]:
    named = frozenset(scopes)
    return named.union(*(IMPLIED.get(scope, frozenset()) for scope in named))


def _bucket(
    table: Mapping[str, Any],
    where: str,
    before: TokenBucket | None,
    make: Callable[[float, int], TokenBucket],
) -> TokenBucket | None:
    rate, burst = table.get("requests_per_second"), table.get("burst")
    if rate is None:
        if burst is not None:
            raise ConfigError(f"{where}: burst: expected requests_per_second beside it, got none")
        return None
    if (
        isinstance(rate, bool)
        or not isinstance(rate, int | float)
        or not 0 < rate <= REQUESTS_PER_SECOND_MAX
    ):
        raise ConfigError(
            f"{where}: requests_per_second: expected a number above 0, at most "
            f"{REQUESTS_PER_SECOND_MAX:,}, got {_shown(rate)}"
        )
    if burst is None:
        burst = math.ceil(rate)
    if isinstance(burst, bool) or not isinstance(burst, int) or burst < 1:
        raise ConfigError(f"{where}: burst: expected an integer from 1, got {_shown(burst)}")
    if before is not None and (before.per_second, before.burst) == (rate, burst):
        return before
    return make(rate, burst)


def _shown(value: object) -> str:
    """Return a value as errors show it: never a key that was put into the file by mistake."""
    text = repr(value)
    return "what looks like a key itself" if _KEY.search(text) else text
