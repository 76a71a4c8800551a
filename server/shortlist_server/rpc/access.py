"""Which scopes each method asks for, and whether a call may go on to its handler."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any, TypeAlias

from shortlist_server.access.api_keys import ApiKey, KeyStore, Scope
from shortlist_server.errors import ApiKeyInvalid, ApiKeyMissing, RateLimited, ScopeMissing

logger = logging.getLogger(__name__)

Scopes: TypeAlias = tuple[Scope, ...]
"""Any one of them opens a method; none at all: it is open to everybody."""

_RECOMMENDATION = "/shortlist.v1.RecommendationService"
REFLECTION_METHOD = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
_CHANNELZ = "/grpc.channelz.v1.Channelz"
METHOD_SCOPES: Mapping[str, Scopes] = {
    f"{_RECOMMENDATION}/Recommend": (Scope.RECOMMEND,),
    f"{_RECOMMENDATION}/StreamRecommend": (Scope.RECOMMEND,),
    f"{_RECOMMENDATION}/BatchRecommend": (Scope.RECOMMEND,),
    f"{_RECOMMENDATION}/Retrieve": (Scope.RECOMMEND,),
    f"{_RECOMMENDATION}/Rank": (Scope.RECOMMEND,),
    f"{_RECOMMENDATION}/FindSimilarItems": (Scope.RECOMMEND,),
    "/shortlist.v1.ConversationService/Converse": (Scope.RECOMMEND,),
    # Who asks for recommendations reads what features there are; who runs bundles sees which one.
    "/shortlist.v1.BundleService/GetActiveBundle": (Scope.RECOMMEND, Scope.ADMIN),
    "/shortlist.v1.BundleService/ListBundles": (Scope.ADMIN,),
    "/shortlist.v1.BundleService/ActivateBundle": (Scope.ADMIN,),
    "/shortlist.v1.BundleService/RollBackBundle": (Scope.ADMIN,),
    "/shortlist.v1.BundleService/DeactivateBundle": (Scope.ADMIN,),
    "/shortlist.v1.CatalogService/GetCatalogStats": (Scope.CATALOG,),
    "/shortlist.v1.CatalogService/GetItem": (Scope.CATALOG,),
    "/shortlist.v1.CatalogService/UpsertItems": (Scope.CATALOG,),
    "/shortlist.v1.CatalogService/DeleteItems": (Scope.CATALOG,),
    # Probes of load balancers have no keys.
    "/grpc.health.v1.Health/Check": (),
    "/grpc.health.v1.Health/List": (),
    "/grpc.health.v1.Health/Watch": (),
    REFLECTION_METHOD: (Scope.REFLECTION,),
    f"{_CHANNELZ}/GetTopChannels": (Scope.CHANNELZ,),
    f"{_CHANNELZ}/GetServers": (Scope.CHANNELZ,),
    f"{_CHANNELZ}/GetServer": (Scope.CHANNELZ,),
    f"{_CHANNELZ}/GetServerSockets": (Scope.CHANNELZ,),
    f"{_CHANNELZ}/GetChannel": (Scope.CHANNELZ,),
    f"{_CHANNELZ}/GetSubchannel": (Scope.CHANNELZ,),
    f"{_CHANNELZ}/GetSocket": (Scope.CHANNELZ,),
}
"""Methods that are not here are not served, so that none is open since it was forgotten."""

KEY_HEADER = "authorization"

current_caller: ContextVar[ApiKey | None] = ContextVar("current_caller", default=None)
"""Key of the call that the current task answers; None where no keys are configured."""


class Access:
    """Admits calls, or refuses them."""

    def __init__(
        self, keys: KeyStore | None, method_scopes: Mapping[str, Scopes] = METHOD_SCOPES
    ) -> None:
        """Take the keys; None opens everything but what only `admin` opens."""
        self._keys = keys
        self._method_scopes = method_scopes

    def serves(self, method: str) -> bool:
        """Whether a method's scopes are declared."""
        return method in self._method_scopes

    def admit(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Let a call through to a method that `serves`, and remember whose it is.

        Raises:
            ApiKeyMissing: the method needs a key, and there is none.
            ApiKeyInvalid: the key is not known, or there are several.
            ScopeMissing: the key does not open the method.
            RateLimited: the key is used more often than it may be.
        """
        scopes = self._method_scopes[method]
        if self._keys is None:
            if scopes == (Scope.ADMIN,):
                raise ScopeMissing(scope=Scope.ADMIN)
            return
        if not scopes:
            return
        presented = [value for name, value in metadata if name == KEY_HEADER]
        if not presented:
            raise ApiKeyMissing
        key = self._keys.find(_bearer(presented[0])) if len(presented) == 1 else None
        if key is None:
            raise ApiKeyInvalid
        logger.debug("%s by key %s", method, key.name)
        if key.scopes.isdisjoint(scopes):
            raise ScopeMissing(scope=" or ".join(scopes))
        _limit(key)
        current_caller.set(key)


def check_details(request: Any) -> None:
    """Check that the caller may have what a request asks for beside its answer.

    Args:
        request: Of any method of RecommendationService, or a row of a batch.

    Raises:
        ScopeMissing: `explain` or `debug` is set, and the caller's key lacks that scope.
    """
    key = current_caller.get()
    if key is None:
        return
    if request.debug and Scope.DEBUG not in key.scopes:
        raise ScopeMissing(scope=Scope.DEBUG)
    # FindSimilarItems has nothing to explain.
    if getattr(request, "explain", False) and Scope.EXPLAIN not in key.scopes:
        raise ScopeMissing(scope=Scope.EXPLAIN)


def may_have_models_asked() -> bool:
    """Whether the caller of the current task may have language models asked, which cost money."""
    key = current_caller.get()
    return key is None or Scope.RERANK in key.scopes


def charge_rows(count: int) -> None:
    """Count the rows of a batch, 1 or more, against the caller's limit like as many calls."""
    key = current_caller.get()
    if key is not None and key.bucket is not None:
        key.bucket.charge(count - 1)


def _bearer(header: str | bytes) -> str:
    """Return the key of an `authorization` header; empty where it has none."""
    if not isinstance(header, str):
        return ""
    scheme, _, key = header.partition(" ")
    return key if scheme.lower() == "bearer" else ""


def _limit(key: ApiKey) -> None:
    bucket = key.bucket
    if bucket is None or not (wait_s := bucket.take()):
        return
    raise RateLimited(
        per_second=bucket.per_second, burst=bucket.burst, retry_delay_ms=math.ceil(wait_s * 1e3)
    )
