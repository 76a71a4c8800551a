"""TLS over real sockets: who is let in, and certificates replaced while the server runs."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates import Authority
from conftest import RunningServer
from grpc_health.v1 import health_pb2, health_pb2_grpc
from shortlist_client import Client, TlsOptions, Unavailable
from shortlist_server.config import ServerConfig
from shortlist_server.errors import ConfigError
from shortlist_server.generation import Generation
from shortlist_server.security import refuse_early

Start = Callable[..., RunningServer]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("tests")


@pytest.fixture
def folder(tmp_path: Path, authority: Authority) -> Path:
    authority.issue("one").write(tmp_path / "server.pem", tmp_path / "server.key")
    authority.issue("client").write(tmp_path / "client.pem", tmp_path / "client.key")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    return tmp_path


@pytest.fixture
def start(tiny_bundle: Path, generation: Generation, folder: Path) -> Iterator[Start]:
    running: list[RunningServer] = []

    def begin(**settings: Any) -> RunningServer:
        files = {
            "tls_certificate_file": folder / "server.pem",
            "tls_key_file": folder / "server.key",
        }
        running.append(RunningServer(tiny_bundle, generation, **{**files, **settings}))
        return running[-1]

    yield begin
    for each in running:
        each.stop()


def shown_to(target: str, folder: Path, *, client: bool = False) -> str:
    """Common name of the certificate that a new connection sees."""
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    context.set_alpn_protocols(["h2"])
    if client:
        context.load_cert_chain(folder / "client.pem", folder / "client.key")
    host, port = target.split(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        certificate = connection.getpeercert()
        assert certificate is not None
        subject: Any = certificate["subject"]
        return str(dict(pair for group in subject for pair in group)["commonName"])


@pytest.mark.parametrize("mutual", [False, True])
def test_new_connection_sees_the_new_certificate_and_the_old_one_goes_on(
    start: Start, folder: Path, authority: Authority, mutual: bool
) -> None:
    target = start(**({"tls_client_ca_file": folder / "ca.pem"} if mutual else {})).target
    credentials = grpc.ssl_channel_credentials(
        authority.pem,
        (folder / "client.key").read_bytes() if mutual else None,
        (folder / "client.pem").read_bytes() if mutual else None,
    )
    with grpc.secure_channel(target, credentials) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == 1
        watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=30)
        assert next(watch).status == 1
        assert shown_to(target, folder, client=mutual) == "one"
        authority.issue("two").write(folder / "server.pem", folder / "server.key")
        assert shown_to(target, folder, client=mutual) == "two"
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == 1
        assert watch.is_active()
        watch.cancel()


def test_half_of_a_renewal_goes_on_with_the_old_pair(
    start: Start, folder: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    target = start().target
    assert shown_to(target, folder) == "one"
    pair = authority.issue("two")
    (folder / "server.pem").write_bytes(pair.certificate)
    assert [shown_to(target, folder) for _ in range(2)] == ["one", "one"]
    (folder / "server.key").write_bytes(pair.key[:90])
    assert shown_to(target, folder) == "one"
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert ["the old certificates stay" in each.getMessage() for each in warnings] == [True] * 2
    (folder / "server.key").write_bytes(pair.key)
    assert shown_to(target, folder) == "two"


def test_new_authority_of_clients_holds_from_the_next_connection_on(
    start: Start, folder: Path
) -> None:
    target = start(tls_client_ca_file=folder / "ca.pem").target
    tls = TlsOptions.from_files(
        ca_file=folder / "ca.pem",
        certificate_file=folder / "client.pem",
        key_file=folder / "client.key",
    )
    with Client(target, tls=tls, timeout_s=10) as client:
        client.get_active_bundle()
    (folder / "ca.pem").write_bytes(Authority("another").pem)
    with Client(target, tls=tls) as client, pytest.raises(Unavailable):
        client.get_active_bundle()


def test_client_that_trusts_another_authority_does_not_connect(start: Start) -> None:
    target = start().target
    for tls in (TlsOptions(root_certificates=Authority("another").pem), True):
        with Client(target, tls=tls) as client, pytest.raises(Unavailable):
            client.get_active_bundle()


def test_plain_text_does_not_reach_a_server_of_tls(start: Start) -> None:
    with Client(start().target) as client, pytest.raises(Unavailable):
        client.get_active_bundle()


def test_client_without_a_certificate_of_the_authority_is_refused(
    start: Start, folder: Path, authority: Authority
) -> None:
    target = start(tls_client_ca_file=folder / "ca.pem").target
    strange = Authority("another").issue("client")
    for tls in (
        TlsOptions(root_certificates=authority.pem),
        TlsOptions(
            root_certificates=authority.pem,
            client_certificate=strange.certificate,
            client_key=strange.key,
        ),
    ):
        with Client(target, tls=tls) as client, pytest.raises(Unavailable):
            client.get_active_bundle()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tls_key_file": None}, ["tls_key_file: expected a file"]),
        ({"tls_certificate_file": None}, ["tls_certificate_file: expected a file"]),
        (
            {"tls_certificate_file": None, "tls_key_file": None, "tls_client_ca_file": "ca.pem"},
            ["tls_certificate_file: expected a file"],
        ),
        ({"tls_key_file": Path("nowhere.pem")}, ["tls_key_file", "nowhere.pem", "No such file"]),
        (
            {"tls_certificate_file": None, "tls_key_file": None, "listen": "0.0.0.0:0"},
            ["listen: expected a loopback address", "0.0.0.0:0", "allow_plaintext"],
        ),
        ({"api_keys_file": Path("nowhere.toml")}, ["nowhere.toml: cannot be read"]),
    ],
)
def test_unsafe_settings_are_refused_by_name(
    folder: Path, settings: dict[str, Any], words: list[str]
) -> None:
    files = {"tls_certificate_file": folder / "server.pem", "tls_key_file": folder / "server.key"}
    config = ServerConfig.model_validate({"bundle": "bundle", **files, **settings})
    with pytest.raises(ConfigError) as caught:
        refuse_early(config)
    for word in words:
        assert word in str(caught.value)


def test_other_addresses_are_listened_on_with_tls_or_where_plain_text_is_allowed(
    start: Start, authority: Authority
) -> None:
    target = start(listen="0.0.0.0:0").target
    with Client(target, tls=TlsOptions(root_certificates=authority.pem), timeout_s=10) as client:
        client.get_active_bundle()
    plain = start(
        listen="0.0.0.0:0", tls_certificate_file=None, tls_key_file=None, allow_plaintext=True
    )
    with Client(plain.target, timeout_s=10) as client:
        client.get_active_bundle()
