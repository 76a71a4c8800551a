"""How both clients send: deadlines, retries, ids, balancing, TLS, beginning and end."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from shortlist.v1 import recommendation_pb2, types_pb2
from shortlist_client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    Internal,
    InvalidValue,
    Recommendations,
    ShortlistError,
    TlsOptions,
    Unavailable,
)

if TYPE_CHECKING:
    from tests.clients.python.conftest import Ask, FakeServer, Hang
    from tests.clients.python.conftest import Failure as FailureType

    MakeFailure = Callable[..., FailureType]

Code = grpc.StatusCode

ANSWER = recommendation_pb2.RecommendResponse(
    info=types_pb2.AnswerInfo(request_id="from the server")
)


def test_a_call_has_one_second_unless_it_says_otherwise(ask: Ask, fake_server: FakeServer) -> None:
    ask("recommend", user="42")
    ask("recommend", user="42", timeout_s=30)
    ask("recommend", user="42", options={"timeout_s": 60})
    ask("recommend", user="42", options={"timeout_s": 60}, timeout_s=20)
    remaining = [call.time_remaining_s for call in fake_server.received]
    for left, given in zip(remaining, [1, 30, 60, 20], strict=True):
        # Above by what gRPC rounds up when it writes a timeout down.
        assert given - 0.9 < left < given * 1.05


def test_a_call_that_takes_too_long_ends_at_its_deadline(
    ask: Ask, fake_server: FakeServer, hang: Hang
) -> None:
    fake_server.script(hang)
    begin = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"gave no answer within 0\.05 s") as caught:
        ask("recommend", user="42", timeout_s=0.05, request_id="mine")
    assert 0.04 < time.monotonic() - begin < 0.9
    assert (caught.value.reason, caught.value.stage) == ("", "")
    assert caught.value.request_id == "mine"
    assert len(fake_server.received) == 1
    assert hang.given_up.wait(timeout=5)


def test_what_is_unavailable_twice_and_then_not_is_answered(
    ask: Ask, fake_server: FakeServer, failure: MakeFailure
) -> None:
    fake_server.script(failure(Code.UNAVAILABLE), failure(Code.UNAVAILABLE), ANSWER)
    answer = ask("recommend", user="42", request_id="mine")
    assert isinstance(answer, Recommendations)
    assert answer.info.request_id == "from the server"
    assert len(fake_server.received) == 3
    assert len({call.request.SerializeToString() for call in fake_server.received}) == 1
    assert {call.metadata["x-request-id"] for call in fake_server.received} == {"mine"}


def test_four_attempts_are_all(ask: Ask, fake_server: FakeServer, failure: MakeFailure) -> None:
    fake_server.script(*[failure(Code.UNAVAILABLE)] * 5)
    with pytest.raises(Unavailable):
        ask("recommend", user="42", timeout_s=5)
    assert len(fake_server.received) == 4


@pytest.mark.parametrize("code", [code for code in Code if code not in (Code.OK, Code.UNAVAILABLE)])
def test_nothing_else_is_retried(
    ask: Ask, fake_server: FakeServer, failure: MakeFailure, code: grpc.StatusCode
) -> None:
    fake_server.script(failure(code), ANSWER)
    with pytest.raises(ShortlistError):
        ask("recommend", user="42")
    assert len(fake_server.received) == 1


def test_a_roll_back_is_made_once(ask: Ask, fake_server: FakeServer, failure: MakeFailure) -> None:
    fake_server.script(*[failure(Code.UNAVAILABLE)] * 2)
    with pytest.raises(Unavailable):
        ask("roll_back_bundle", timeout_s=5)
    assert len(fake_server.received) == 1


def test_retries_end_at_the_deadline(
    ask: Ask, fake_server: FakeServer, failure: MakeFailure, hang: Hang
) -> None:
    fake_server.script(failure(Code.UNAVAILABLE), hang)
    begin = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        ask("recommend", user="42", timeout_s=0.15)
    assert time.monotonic() - begin < 0.9
    assert len(fake_server.received) == 2
    first, second = (call.time_remaining_s for call in fake_server.received)
    assert second < first - 0.01


def test_a_server_that_is_not_there_is_unavailable_by_name(
    ask: Ask, fake_server: FakeServer
) -> None:
    fake_server.stop()
    with pytest.raises(Unavailable, match=f"{fake_server.target} is not available") as caught:
        ask("recommend", user="42")
    assert (caught.value.code, caught.value.reason) == (Code.UNAVAILABLE, "")


@pytest.fixture(params=["refuses", "is silent"])
def nobody(request: pytest.FixtureRequest) -> Iterator[str]:
    """Address of a port where no server is: one that refuses connections, or takes them and says
    nothing.
    """
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        if request.param == "is silent":
            listening.listen()
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("timeout_s", [0.02, 0.2])
@pytest.mark.parametrize("method", ["recommend", "stream_recommend"])
def test_who_cannot_reach_the_server_within_a_short_deadline_is_told_so(
    ask: Ask, nobody: str, timeout_s: float, method: str
) -> None:
    for _ in range(2):  # and no unhandled fault of gRPC's threads, which would be a warning
        with pytest.raises(Unavailable, match=f"{nobody} is not available: no conn") as caught:
            ask(method, user="42", timeout_s=timeout_s, options={"target": nobody})
        assert (caught.value.code, caught.value.reason) == (Code.UNAVAILABLE, "")
        assert isinstance(caught.value.__cause__, grpc.RpcError)


def test_a_server_that_comes_back_is_found_again(start_server: Callable[..., FakeServer]) -> None:
    server = start_server()
    with Client(server.target) as client:
        client.recommend(user="42")
        server.stop()
        with pytest.raises(Unavailable):
            client.recommend(user="42")
        again = start_server(port=server.port)
        # A few tries, since the client waits for its next attempt to connect: 100 ms and growing.
        for _ in range(10):
            try:
                client.recommend(user="42")
                break
            except Unavailable:
                continue
        assert again.received


def test_calls_go_to_all_addresses_in_turn(start_server: Callable[..., FakeServer]) -> None:
    servers = [start_server(), start_server()]
    target = "ipv4:" + ",".join(server.target for server in servers)
    with Client(target) as client:
        for _ in range(50):
            client.recommend(user="42")
    assert min(len(server.received) for server in servers) >= 10


def test_a_stopping_replica_costs_nothing_while_another_runs(
    start_server: Callable[..., FakeServer], failure: MakeFailure
) -> None:
    stopping, running = start_server(), start_server()
    stopping.script(*[failure(Code.UNAVAILABLE, "SHUTTING_DOWN")] * 100)
    with Client(f"ipv4:{stopping.target},{running.target}") as client:
        for _ in range(8):
            client.recommend(user="42")
    assert len(running.received) == 8


def test_the_request_id_travels_as_metadata(ask: Ask, fake_server: FakeServer) -> None:
    ask("recommend", user="42", request_id="mine")
    assert fake_server.received[0].metadata["x-request-id"] == "mine"


def test_a_request_without_an_id_gets_a_new_one(ask: Ask, fake_server: FakeServer) -> None:
    ask("recommend", user="42")
    ask("get_active_bundle")
    first, second = (str(call.metadata["x-request-id"]) for call in fake_server.received)
    assert len(first) == 32
    assert first != second


def test_the_clients_metadata_goes_with_every_call(ask: Ask, fake_server: FakeServer) -> None:
    options = {"metadata": {"authorization": "Bearer t", "trace-bin": b"\x00\x01"}}
    ask("recommend", user="42", options=options)
    metadata = fake_server.received[0].metadata
    assert metadata["authorization"] == "Bearer t"
    assert metadata["trace-bin"] == b"\x00\x01"


def test_channel_options_of_the_caller_win(
    ask: Ask, fake_server: FakeServer, failure: MakeFailure
) -> None:
    fake_server.script(failure(Code.UNAVAILABLE), ANSWER)
    options = {"channel_options": {"grpc.enable_retries": 0}}
    with pytest.raises(Unavailable):
        ask("recommend", user="42", options=options)
    assert len(fake_server.received) == 1


@pytest.mark.parametrize("client_type", [Client, AsyncClient])
@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf"), "1"])
def test_a_client_without_a_sensible_deadline_is_refused(client_type: Any, timeout_s: Any) -> None:
    with pytest.raises(InvalidValue, match="timeout_s"):
        client_type("127.0.0.1:1", timeout_s=timeout_s)


def test_an_answer_that_cannot_be_read_is_an_internal_error(
    ask: Ask, fake_server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    # A message of another type whose fields clash: `items` holds a string that is no message.
    fake_server.script(recommendation_pb2.FindSimilarItemsRequest(item_id="\x7f"))
    with pytest.raises(Internal):
        ask("recommend", user="42")


def test_a_client_ends_with_its_block_and_may_be_closed_again(fake_server: FakeServer) -> None:
    with Client(fake_server.target) as client:
        client.recommend(user="42")
    with pytest.raises(RuntimeError, match="the client is closed"):
        client.recommend(user="42")
    client.close()


async def test_an_async_client_ends_with_its_block_and_may_be_closed_again(
    fake_server: FakeServer,
) -> None:
    async with AsyncClient(fake_server.target) as client:
        await client.recommend(user="42")
    with pytest.raises(RuntimeError, match="the client is closed"):
        await client.recommend(user="42")
    await client.close()


async def test_an_async_client_that_never_called_closes(fake_server: FakeServer) -> None:
    client = AsyncClient(fake_server.target)
    await client.close()
    with pytest.raises(RuntimeError, match="the client is closed"):
        await client.recommend(user="42")


def test_a_client_may_be_made_before_there_is_an_event_loop(fake_server: FakeServer) -> None:
    client = AsyncClient(fake_server.target)

    async def use() -> None:
        async with client:
            await client.recommend(user="42")

    asyncio.run(use())
    assert len(fake_server.received) == 1


async def test_async_calls_run_at_the_same_time(
    start_server: Callable[..., FakeServer], hang: Hang
) -> None:
    server = start_server()
    server.script(hang)
    async with AsyncClient(server.target, timeout_s=5) as client:
        waiting = asyncio.create_task(client.recommend(user="42"))
        assert await asyncio.to_thread(server.called.wait, 5)
        await client.recommend(user="43")
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert await asyncio.to_thread(hang.given_up.wait, 5)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[bytes, bytes]]:
    """Makes a self-signed certificate, and its key, for a name."""
    folder = tmp_path_factory.mktemp("certificates")

    def make(name: str) -> tuple[bytes, bytes]:
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        if not certificate.exists():
            run_openssl(certificate, key, name)
        return certificate.read_bytes(), key.read_bytes()

    return make


def run_openssl(certificate: Path, key: Path, name: str) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )


Certificates = Callable[[str], tuple[bytes, bytes]]


@pytest.mark.parametrize("client_type", ["Client", "AsyncClient"])
def test_tls_works_both_ways_and_refuses_strangers(
    start_server: Callable[..., FakeServer], certificates: Certificates, client_type: str
) -> None:
    server_certificate, server_key = certificates("server")
    client_certificate, client_key = certificates("client")
    credentials = grpc.ssl_server_credentials(
        [(server_key, server_certificate)],
        root_certificates=client_certificate,
        require_client_auth=True,
    )
    server = start_server(credentials)

    def call(tls: TlsOptions | None) -> None:
        if client_type == "Client":
            with Client(server.target, tls=tls) as client:
                client.recommend(user="42")
            return

        async def call_asyncio() -> None:
            async with AsyncClient(server.target, tls=tls) as client:
                await client.recommend(user="42")

        asyncio.run(call_asyncio())

    both = TlsOptions(
        root_certificates=server_certificate,
        client_certificate=client_certificate,
        client_key=client_key,
    )
    call(both)
    assert len(server.received) == 1
    for stranger in (
        TlsOptions(root_certificates=server_certificate),
        TlsOptions(
            root_certificates=client_certificate,
            client_certificate=client_certificate,
            client_key=client_key,
        ),
        None,
    ):
        with pytest.raises(Unavailable):
            call(stranger)
    assert len(server.received) == 1


def test_half_a_client_certificate_is_refused() -> None:
    with pytest.raises(ValueError, match="got one of them"):
        TlsOptions(client_certificate=b"certificate")
    with pytest.raises(ValueError, match="got one of them"):
        TlsOptions(client_key=b"key")


def test_a_private_key_is_not_shown() -> None:
    assert "secret" not in repr(TlsOptions(client_certificate=b"public", client_key=b"secret"))
