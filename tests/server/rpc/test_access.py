from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc_channelz.v1 import channelz_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from shortlist.v1 import bundle_pb2, catalog_pb2, conversation_pb2, recommendation_pb2
from shortlist_server.access.api_keys import KeyStore, Scope, entry, make_key
from shortlist_server.errors import ApiKeyInvalid, ApiKeyMissing, ScopeMissing
from shortlist_server.rpc.access import METHOD_SCOPES, Access, current_caller
from shortlist_server.rpc.server import SERVICE_NAMES


@pytest.fixture(autouse=True)
def nobody_after() -> Iterator[None]:
    """What is admitted here is admitted in the tests' own context: servers that others start would
    take it over.
    """
    token = current_caller.set(None)
    yield
    current_caller.reset(token)


RECOMMEND = "/shortlist.v1.RecommendationService/Recommend"


def test_every_method_of_every_service_declares_its_scopes() -> None:
    """A method without scopes is not served: declare it in METHOD_SCOPES, and in the table of
    docs/security.md.
    """
    methods = {
        f"/{service.full_name}/{method.name}"
        for module in (
            bundle_pb2,
            catalog_pb2,
            channelz_pb2,
            conversation_pb2,
            health_pb2,
            recommendation_pb2,
            reflection_pb2,
        )
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    # Health.List is newer than the floor of grpcio-health-checking.
    assert methods | {"/grpc.health.v1.Health/List"} == set(METHOD_SCOPES)
    own = {method.split("/")[1] for method in METHOD_SCOPES if method.startswith("/shortlist.")}
    assert own == set(SERVICE_NAMES)


def test_only_health_is_open() -> None:
    open_ = {method.split("/")[1] for method, scopes in METHOD_SCOPES.items() if not scopes}
    assert open_ == {"grpc.health.v1.Health"}


def test_without_keys_only_what_needs_admin_is_refused() -> None:
    access = Access(None)
    refused = set()
    for method, scopes in METHOD_SCOPES.items():
        if scopes == (Scope.ADMIN,):
            refused.add(method.rpartition("/")[2])
            with pytest.raises(ScopeMissing, match="scope admin"):
                access.admit(method, ())
        else:
            access.admit(method, ())
    assert refused == {"ListBundles", "ActivateBundle", "RollBackBundle", "DeactivateBundle"}


def test_method_that_is_not_declared_is_not_served() -> None:
    assert not Access(None).serves("/shortlist.v1.BundleService/Forgotten")


@pytest.fixture
def key() -> str:
    return make_key()


@pytest.fixture
def access(tmp_path: Path, key: str) -> Access:
    (tmp_path / "keys.toml").write_text(entry(key, name="a", scopes=["recommend"]))
    return Access(KeyStore(tmp_path / "keys.toml"))


def test_key_is_taken_from_one_bearer_header(access: Access, key: str) -> None:
    for header in (f"Bearer {key}", f"bearer {key}", f"BEARER {key}"):
        access.admit(RECOMMEND, (("x", "y"), ("authorization", header)))
    wrong = [key, f"Basic {key}", f"Bearer  {key}", f"Bearer {key} ", "Bearer", "", f"Bearer{key}"]
    for header in wrong:
        with pytest.raises(ApiKeyInvalid):
            access.admit(RECOMMEND, (("authorization", header),))
    with pytest.raises(ApiKeyMissing):
        access.admit(RECOMMEND, (("x-authorization", f"Bearer {key}"),))


def test_several_keys_are_refused_whichever_they_are(access: Access, key: str) -> None:
    header = ("authorization", f"Bearer {key}")
    for other in (header, ("authorization", "Basic proxy")):
        for headers in ((header, other), (other, header)):
            with pytest.raises(ApiKeyInvalid):
                access.admit(RECOMMEND, headers)


def test_health_needs_no_key(access: Access) -> None:
    access.admit("/grpc.health.v1.Health/Check", ())
