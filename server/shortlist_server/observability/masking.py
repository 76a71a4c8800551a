"""What the request log keeps of users.

`keep` keeps requests as they are sent. `hash` replaces ids by keyed hashes, so that rows of one
user can be told to be his without telling who he is, and so that a replay that has the key and the
bundle finds the ids again. `drop` leaves out all that says something of a user. `docs/replay.md`
lists what that comes to, field by field.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from collections.abc import MutableMapping, MutableSequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from shortlist.v1 import types_pb2

from shortlist_server.errors import ConfigError

Users: TypeAlias = Literal["keep", "hash", "drop"]

KEY_BYTES_MIN = 16
HASH_DIGITS = 32
"""Hexadecimal digits of a hash: 128 bits."""

USER_ID = "query.user.id"
USER_FEATURES = "query.user.features"
HISTORY = "query.user.history"
HISTORY_DETAILS = "query.user.history.details"
"""Time, rating and action of the events, where any was sent."""
ITEMS = "query.items.item_ids"
EMBEDDING = "query.embedding"
TEXT = "query.text"
CONTEXT = "query.context"
EXCLUSIONS = "exclusions.item_ids"
EXCLUDED = "excluded_item_ids"


def keyed_hash(key: bytes, kind: str, value: bytes) -> str:
    """Return the hash by which a value is known in a log.

    Args:
        key: Secret of the log.
        kind: What the value is: `user`, `item`, ...; the same text of two kinds gives two hashes.
        value: The value.
    """
    message = kind.encode() + b"\0" + value
    return hmac.new(key, message, hashlib.sha256).hexdigest()[:HASH_DIGITS]


class Masking:
    """Hashes, or leaves out, what requests and answers say of users."""

    def __init__(self, users: Users, key: bytes = b"") -> None:
        """Take what to do, and the secret of `hash`."""
        self._users = users
        self._key = key

    def request_id(self, request_id: str) -> str:
        """Return what is kept of a request id: callers may make it of anything."""
        if self._users == "keep":
            return request_id
        return self._hash("request", request_id) if self._users == "hash" else ""

    def request(self, request: Any) -> tuple[Any, tuple[str, ...]]:
        """Return a request without what is not to be kept, and the paths of the fields that are
        not as they were sent. The request itself is left as it is.
        """
        if self._users == "keep":
            return request, ()
        masked = type(request)()
        masked.CopyFrom(request)
        paths: list[str] = []
        fields = masked.DESCRIPTOR.fields_by_name
        if "query" in fields and masked.HasField("query"):
            self._query(masked.query, paths)
        if "exclusions" in fields and masked.exclusions.item_ids:
            paths.append(EXCLUSIONS)
            self._item_ids(masked.exclusions.item_ids)
        if EXCLUDED in fields and masked.excluded_item_ids:
            paths.append(EXCLUDED)
            self._item_ids(masked.excluded_item_ids)
        return masked, tuple(paths)

    def info(self, info: types_pb2.AnswerInfo) -> types_pb2.AnswerInfo:
        """Return what is kept of an answer's info."""
        kept = types_pb2.AnswerInfo()
        kept.CopyFrom(info)
        # They repeat the request, with what the bundle knows of the user, and are large.
        kept.ClearField("answered_query")
        kept.ClearField("model_inputs")
        if self._users == "keep":
            return kept
        kept.request_id = self.request_id(info.request_id)
        kept.ClearField("warnings")  # they name items of the history
        for source in kept.sources:
            if source.kind == "popularity":
                source.plan = ""  # it may name the value of a feature: `among country = NO`
        for stage in kept.stages:
            if stage.name == "retrieval":
                stage.plan = ""  # the sources' plans again
        return kept

    def _query(self, query: types_pb2.Query, paths: list[str]) -> None:
        kind = query.WhichOneof("kind")
        if kind == "user":
            self._user(query.user, paths)
        elif kind == "items" and query.items.item_ids:
            paths.append(ITEMS)
            self._item_ids(query.items.item_ids)
        elif kind == "embedding":
            # It describes whomever the caller computed it from; no part of it can be kept.
            paths.append(EMBEDDING)
            query.embedding.Clear()
        self._features(query.context, CONTEXT, paths)
        if query.text:
            # Whoever wrote it may have written of himself; no part of it can be kept.
            paths.append(TEXT)
            query.text = ""

    def _user(self, user: types_pb2.UserQuery, paths: list[str]) -> None:
        if user.id:
            paths.append(USER_ID)
            user.id = self._hash("user", user.id) if self._users == "hash" else ""
        self._features(user.features, USER_FEATURES, paths)
        if not user.history:
            return
        paths.append(HISTORY)
        if any(_has_details(event) for event in user.history):
            paths.append(HISTORY_DETAILS)
        item_ids = [event.item_id for event in user.history]
        self._item_ids(item_ids)
        del user.history[:]
        for item_id in item_ids:
            user.history.add(item_id=item_id)

    def _features(
        self, features: MutableMapping[str, types_pb2.Value], path: str, paths: list[str]
    ) -> None:
        if not features:
            return
        paths.append(path)
        hashes = {
            name: keyed_hash(
                self._key, f"feature {name}", value.SerializeToString(deterministic=True)
            )
            for name, value in features.items()
        }
        features.clear()
        if self._users == "hash":
            for name, digits in hashes.items():
                features[name].string_value = digits

    def _item_ids(self, item_ids: MutableSequence[str]) -> None:
        """Hash, or remove, ids of items that tell what a user did."""
        kept = list(item_ids) if self._users == "hash" else []
        del item_ids[:]
        item_ids.extend(self._hash("item", item_id) for item_id in kept)

    def _hash(self, kind: str, text: str) -> str:
        return keyed_hash(self._key, kind, text.encode())


def _has_details(event: types_pb2.HistoryEvent) -> bool:
    return event.HasField("time") or event.HasField("rating") or bool(event.action)


def make_key(path: Path) -> None:
    """Write a new secret into a file that only its owner may read; a file that is there is left.

    Raises:
        ConfigError: the file cannot be written.
    """
    if path.exists():
        return
    # Written elsewhere and linked: of several servers that begin at once one wins, and none reads
    # a file that is half written.
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(32) + "\n")
            with contextlib.suppress(FileExistsError):
                os.link(hidden, path)
        finally:
            hidden.unlink()
    except OSError as error:
        raise ConfigError(
            f"request_log_salt_file: cannot write {path}: {error.strerror}"
        ) from error


def read_key(path: Path) -> bytes:
    """Return the secret in a file.

    Raises:
        ConfigError: the file cannot be read, or is too short to be a secret.
    """
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"request_log_salt_file: cannot read {path}: {error.strerror}") from error
    if len(key) < KEY_BYTES_MIN:
        raise ConfigError(
            f"request_log_salt_file: expected {KEY_BYTES_MIN} bytes or more in {path}, got "
            f"{len(key)}"
        )
    return key
