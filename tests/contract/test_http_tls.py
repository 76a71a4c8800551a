"""HTTP by TLS: the certificates of gRPC, renewed like them; clients that must show one."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from http_calls import post
from shortlist_server.generation import Generation

RECOMMEND = "/shortlist.v1.RecommendationService/Recommend"
BODY = {"query": {"user": {"id": "u1"}}, "limit": 3}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("ours")


@pytest.fixture
def files(authority: Authority, tmp_path: Path) -> Path:
    authority.issue("first").write(tmp_path / "server.pem", tmp_path / "server.key")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    return tmp_path


@pytest.fixture
def serve(tiny_bundle: Path, generation: Generation, server: Any, files: Path) -> Iterator[Any]:
    running: list[Any] = []

    def start(**settings: Any) -> str:
        named = {
            "http_listen": "127.0.0.1:0",
            "tls_certificate_file": files / "server.pem",
            "tls_key_file": files / "server.key",
        }
        running.append(type(server)(tiny_bundle, generation, **(named | settings)))
        return str(running[-1].http)

    yield start
    for each in running:
        each.stop()


def trusting(files: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(files / "ca.pem"))


def shown(address: str, files: Path) -> str:
    """The name on the certificate that a server shows."""
    host, port = address.split(":")
    with (
        socket.create_connection((host, int(port)), timeout=20) as plain,
        trusting(files).wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        certificate: Any = secured.getpeercert()
    return str(certificate["subject"][0][0][1])


def test_calls_are_answered_and_plain_text_is_not(serve: Any, files: Path) -> None:
    address = serve()
    assert post(address, RECOMMEND, BODY, tls=trusting(files)).status == 200
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        post(address, RECOMMEND, BODY)


def test_new_connections_get_the_certificate_of_now(
    serve: Any, files: Path, authority: Authority
) -> None:
    address = serve()
    assert shown(address, files) == "first"
    authority.issue("second").write(files / "server.pem", files / "server.key")
    assert shown(address, files) == "second"
    # Files that do not fit leave what was.
    (files / "server.key").write_text("half")
    assert shown(address, files) == "second"


def test_clients_show_their_certificates(serve: Any, files: Path, authority: Authority) -> None:
    address = serve(tls_client_ca_file=files / "ca.pem")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        post(address, RECOMMEND, BODY, tls=trusting(files))
    authority.issue("client").write(files / "client.pem", files / "client.key")
    showing = trusting(files)
    showing.load_cert_chain(files / "client.pem", files / "client.key")
    assert post(address, RECOMMEND, BODY, tls=showing).status == 200
