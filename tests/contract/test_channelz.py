"""channelz, where it is asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import grpc
import pytest
from conftest import RunningServer
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from serving_process import ServingProcess
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub
from shortlist_server.access.api_keys import entry, make_key
from shortlist_server.errors import MissingExtra
from shortlist_server.generation import Generation

ASK = channelz_pb2.GetServersRequest()


def code_of(stub: channelz_pb2_grpc.ChannelzStub, key: str = "") -> grpc.StatusCode:
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    try:
        stub.GetServers(ASK, timeout=10, metadata=metadata)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def test_it_counts_the_calls_of_a_server(tiny_bundle: Path) -> None:
    with (
        ServingProcess(tiny_bundle, "--channelz", "true") as serving,
        grpc.insecure_channel(serving.target) as channel,
    ):
        with pytest.raises(grpc.RpcError):
            RecommendationServiceStub(channel).Recommend(pb.RecommendRequest(), timeout=10)
        stub = channelz_pb2_grpc.ChannelzStub(channel)
        (server,) = stub.GetServers(ASK, timeout=10).server
        assert server.data.calls_started == 2
        asked = channelz_pb2.GetServerSocketsRequest(server_id=server.ref.server_id)
        (reference,) = stub.GetServerSockets(asked, timeout=10).socket_ref
        socket = channelz_pb2.GetSocketRequest(socket_id=reference.socket_id)
        assert stub.GetSocket(socket, timeout=10).socket.data.streams_started == 4


def test_it_is_not_served_unless_it_is_asked_for(channel: grpc.Channel) -> None:
    stub = channelz_pb2_grpc.ChannelzStub(channel)
    assert code_of(stub) is grpc.StatusCode.UNIMPLEMENTED


def test_it_has_a_scope_of_its_own(
    tiny_bundle: Path, generation: Generation, tmp_path: Path
) -> None:
    right, wrong = make_key(), make_key()
    keys = tmp_path / "keys.toml"
    keys.write_text(
        entry(right, name="operator", scopes=["channelz"])
        + entry(wrong, name="shop", scopes=["recommend", "catalog", "admin", "reflection"])
    )
    running = RunningServer(tiny_bundle, generation, channelz=True, api_keys_file=keys)
    try:
        with grpc.insecure_channel(running.target) as channel:
            stub = channelz_pb2_grpc.ChannelzStub(channel)
            codes = [code_of(stub, key) for key in ("", wrong, right)]
    finally:
        running.stop()
    assert codes == [
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.OK,
    ]


def test_what_is_missing_is_named(
    tiny_bundle: Path, generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "grpc_channelz.v1", None)
    with pytest.raises(MissingExtra, match=r"channelz needs.*pip install 'shortlist\[channelz\]'"):
        RunningServer(tiny_bundle, generation, channelz=True)
