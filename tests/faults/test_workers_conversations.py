"""Conversations that a server of several workers keeps: each worker can answer the next turn, and
no conversation is lost with a worker, or with all of them.
"""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from conversing import Answered, Talk
from shortlist.v1 import conversation_pb2 as pb
from shortlist.v1.conversation_pb2_grpc import ConversationServiceStub
from supervised import Supervised, is_there, kill, until, write_bundle

WORKERS = 2


class Visits(Talk):
    """A conversation each turn of which comes on a connection of its own."""

    def __init__(self, server: Supervised) -> None:
        self._server = server
        with server.channel() as channel:
            super().__init__(channel, limit=1)

    def say(self, text: str, **changes: object) -> Answered:  # type: ignore[override]
        request = pb.ConverseRequest(text=text, **{**self.asked, **self.so_far, **changes})
        with self._server.channel() as channel:
            call = ConversationServiceStub(channel).Converse(
                request, timeout=20, metadata=self._server.metadata
            )
            answered = Answered(call)
        self.so_far = {"conversation_id": answered.end.conversation_id}
        return answered


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("workers")
    write_bundle(root / "bundles", "1", 1)
    return root


def test_a_kept_conversation_goes_on_whichever_worker_answers(folder: Path) -> None:
    shown = []
    with Supervised(folder, "--workers", str(WORKERS)) as server:
        visits = Visits(server)
        shown += visits.say("Films", keep=True).ids
        (conversation_id,) = visits.so_far.values()
        assert conversation_id
        for number in range(6 * WORKERS):
            answered = visits.say(f"More {number}")
            assert answered.end.conversation_id == conversation_id
            shown += answered.ids
        for victim in server.workers():
            kill(victim)
            until(lambda victim=victim: not is_there(victim), "its end")  # type: ignore[misc]
            until(lambda: len(server.workers()) == WORKERS, "all workers")
            until(lambda: answers(server), "answers")
            shown += visits.say("More").ids
        assert len(set(shown)) == len(shown) == 1 + 6 * WORKERS + WORKERS
    with Supervised(folder, "--workers", str(WORKERS)) as server:
        again = Visits(server)
        again.so_far = {"conversation_id": conversation_id}
        assert again.say("More").ids[0] not in shown
        with pytest.raises(grpc.RpcError) as caught:
            again.say("More", conversation_id="another")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def answers(server: Supervised) -> bool:
    try:
        return bool(server.version())
    except grpc.RpcError as error:
        # The connection went to the worker that was killed.
        assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017  # others are a fault
        return False
