"""What both clients send of a key, and to whom."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from shortlist_client import AsyncClient, Client, InvalidValue, TlsOptions
from shortlist_client.connection import is_local

if TYPE_CHECKING:
    from tests.clients.python.conftest import FakeServer

KEY = "sl_" + "k" * 43
CLIENTS = pytest.mark.parametrize("client_type", [Client, AsyncClient])


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:8500",
        "127.1.2.3:1",
        "localhost:8500",
        "localhost",
        "[::1]:8500",
        "::1",
        "dns:///localhost:8500",
        "dns:127.0.0.1:8500",
        "ipv4:127.0.0.1:8500",
        "ipv6:[::1]:8500",
        "unix:/run/shortlist",
    ],
)
def test_this_machine_is_local(target: str) -> None:
    assert is_local(target)


@pytest.mark.parametrize(
    "target",
    [
        "10.0.0.1:8500",
        "shortlist.example:8500",
        "localhost.example:8500",
        "127.0.0.1.example:8500",
        "dns:///shortlist.example:8500",
        "dns://127.0.0.1/shortlist.example:8500",
        "ipv4:127.0.0.1:8500,10.0.0.1:8500",
        "0.0.0.0:8500",
        "[::]:8500",
        "[fe80::1]:8500",
        "localhost@example:8500",
        "xds:///localhost",
        "",
    ],
)
def test_all_else_is_not(target: str) -> None:
    assert not is_local(target)


def test_key_goes_with_every_call(
    fake_server: FakeServer, client_type_ask: Callable[..., None]
) -> None:
    client_type_ask(fake_server.target, api_key=KEY, metadata={"x-mine": "1"})
    (call,) = fake_server.received
    assert call.metadata["authorization"] == f"Bearer {KEY}"
    assert call.metadata["x-mine"] == "1"


def test_without_a_key_nothing_is_sent(
    fake_server: FakeServer, client_type_ask: Callable[..., None]
) -> None:
    client_type_ask(fake_server.target)
    (call,) = fake_server.received
    assert "authorization" not in call.metadata


@pytest.fixture(params=["blocking", "asyncio"])
def client_type_ask(request: pytest.FixtureRequest) -> Callable[..., None]:
    import asyncio

    def blocking(target: str, **options: Any) -> None:
        with Client(target, **options) as client:
            client.get_active_bundle()

    async def call(target: str, **options: Any) -> None:
        async with AsyncClient(target, **options) as client:
            await client.get_active_bundle()

    def with_asyncio(target: str, **options: Any) -> None:
        asyncio.run(call(target, **options))

    return blocking if request.param == "blocking" else with_asyncio


@CLIENTS
def test_key_is_not_sent_in_plain_text_to_another_machine(client_type: Any) -> None:
    with pytest.raises(InvalidValue, match=r"expected TLS to 10\.0\.0\.1:8500") as caught:
        client_type("10.0.0.1:8500", api_key=KEY)
    assert KEY not in str(caught.value)
    with pytest.raises(InvalidValue):
        client_type("10.0.0.1:8500", api_key=KEY, tls=False)


@pytest.mark.parametrize(
    "options", [{"tls": True}, {"tls": TlsOptions()}, {"allow_plaintext_key": True}]
)
def test_key_is_sent_over_tls_or_where_plain_text_is_allowed(options: dict[str, Any]) -> None:
    Client("10.0.0.1:8500", api_key=KEY, **options).close()
    AsyncClient("10.0.0.1:8500", api_key=KEY, **options)


@CLIENTS
@pytest.mark.parametrize("key", ["", f"{KEY}\n", f"{KEY} x", "schlüssel", b"sl_bytes", 7])
def test_key_that_cannot_be_sent_is_refused_without_showing_it(client_type: Any, key: Any) -> None:
    with pytest.raises(InvalidValue, match="api_key: expected printable ASCII") as caught:
        client_type("127.0.0.1:8500", api_key=key)
    assert "kkk" not in str(caught.value)
    assert "schl" not in str(caught.value)


@CLIENTS
def test_key_beside_an_authorization_of_ones_own_is_refused(client_type: Any) -> None:
    with pytest.raises(InvalidValue, match="no authorization in metadata"):
        client_type("127.0.0.1:8500", api_key=KEY, metadata={"authorization": "Basic x"})


def test_options_of_tls_come_from_files(tmp_path: Path) -> None:
    for name in ("ca", "certificate", "key"):
        (tmp_path / name).write_bytes(name.encode())
    assert TlsOptions.from_files() == TlsOptions()
    assert TlsOptions.from_files(
        ca_file=tmp_path / "ca",
        certificate_file=str(tmp_path / "certificate"),
        key_file=tmp_path / "key",
    ) == TlsOptions(root_certificates=b"ca", client_certificate=b"certificate", client_key=b"key")
    with pytest.raises(ValueError, match="got one of them"):
        TlsOptions.from_files(key_file=tmp_path / "key")
    with pytest.raises(FileNotFoundError):
        TlsOptions.from_files(ca_file=tmp_path / "nowhere")
