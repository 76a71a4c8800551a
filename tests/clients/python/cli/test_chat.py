"""`shortlist chat` at a prompt, and where nobody sits there."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from shortlist.v1 import conversation_pb2 as pb

if TYPE_CHECKING:
    from tests.clients.python.conftest import Failure as FailureType
    from tests.clients.python.conftest import FakeServer, Hang

COMMAND = [sys.executable, "-m", "shortlist_client.cli", "chat"]


def turn(reply: str, state: str) -> list[pb.ConverseResponse]:
    """A turn that says this, and leaves a conversation of one turn behind."""
    kept = pb.ConversationState(turns=[pb.ConversationTurn(text=state)])
    return [
        pb.ConverseResponse(reply=pb.ReplyPiece(text=reply)),
        pb.ConverseResponse(end=pb.TurnEnd(reply=reply, state=kept)),
    ]


class Prompt:
    """Somebody at a terminal."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        self._terminal, slave = os.openpty()
        self.run = subprocess.Popen(
            [*COMMAND, *arguments],
            env={**environment, "TERM": "dumb"},
            stdin=slave,
            stdout=slave,
            stderr=subprocess.PIPE,
        )
        os.close(slave)
        self._seen = ""

    def wait_for(self, words: str) -> None:
        while words not in self._seen:
            assert select.select([self._terminal], [], [], 20)[0], f"no {words!r}: {self._seen!r}"
            self._seen += os.read(self._terminal, 65_536).decode()
        self._seen = self._seen.partition(words)[2]

    def say(self, words: str) -> None:
        self.wait_for("> ")
        os.write(self._terminal, words.encode())

    def close(self) -> tuple[int, bytes]:
        if self.run.stderr is None or self.run.stderr.closed:
            return self.run.returncode, b""
        _, errors = self.run.communicate(timeout=20)
        os.close(self._terminal)
        return self.run.returncode, errors


@pytest.fixture
def sit_down(environment: dict[str, str]) -> Iterator[Callable[..., Prompt]]:
    del environment["SHORTLIST_OUTPUT"]
    begun: list[Prompt] = []

    def begin(*arguments: str) -> Prompt:
        begun.append(Prompt(environment, *arguments))
        return begun[-1]

    yield begin
    for prompt in begun:
        prompt.run.kill()
        prompt.close()


def test_a_conversation_goes_on_after_what_fails_and_what_is_left_off(
    sit_down: Callable[..., Prompt],
    fake_server: FakeServer,
    failure: Callable[..., FailureType],
    hang: Hang,
) -> None:
    fake_server.script(turn("Which?", "one"))
    prompt = sit_down("--user", "42")
    prompt.say("Films\n")
    prompt.wait_for("Which?")
    fake_server.script([failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")])
    prompt.say("Older\n")
    prompt.wait_for("what is wrong")
    fake_server.script([pb.ConverseResponse(reply=pb.ReplyPiece(text="Well")), hang])
    prompt.say("Older\n")
    prompt.wait_for("Well")
    prompt.run.send_signal(signal.SIGINT)
    prompt.wait_for("(left off)")
    fake_server.script(turn("These.", "two"), turn("Anew.", "three"))
    prompt.say("Older\n")
    prompt.wait_for("These.")
    prompt.say("/new\n")
    prompt.say("Songs\n")
    prompt.wait_for("Anew.")
    prompt.say("\x04")
    assert prompt.close() == (0, b"")
    requests: list[Any] = [call.request for call in fake_server.received]
    assert [request.text for request in requests] == ["Films", "Older", "Older", "Older", "Songs"]
    # What failed, or was left off, may be said again: the conversation is what it was before.
    assert [[one.text for one in request.state.turns] for request in requests] == [
        [],
        *[["one"]] * 3,
        [],
    ]


def test_ctrl_c_at_the_prompt_ends_it(sit_down: Callable[..., Prompt]) -> None:
    prompt = sit_down()
    prompt.wait_for("> ")
    # Again where it came after the prompt was written, and before readline began to wait: it then
    # waits on, which a person would not see, who is slower than that.
    while prompt.run.poll() is None:
        prompt.run.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            prompt.run.wait(timeout=5)
    assert prompt.close() == (130, b"")


def test_where_nobody_sits_there_each_part_is_a_line_of_json(
    shortlist: Callable[..., int],
    fake_server: FakeServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Films\n"))
    fake_server.script(turn("Which?", "one"))
    assert shortlist("chat", "--json") == 0
    reply, end = map(json.loads, capsys.readouterr().out.splitlines())
    assert reply["reply"]["text"] == "Which?"
    assert end["end"]["state"]["turns"][0]["text"] == "one"


def test_without_somebody_there_the_first_error_ends_it(
    shortlist: Callable[..., int],
    fake_server: FakeServer,
    failure: Callable[..., FailureType],
) -> None:
    fake_server.script([failure(grpc.StatusCode.NOT_FOUND, "CONVERSATION_NOT_FOUND")])
    assert shortlist("chat", "Films", "More", "--conversation", "none") == 4
    assert len(fake_server.received) == 1


def test_a_turn_has_half_a_minute_where_nobody_says(
    shortlist: Callable[..., int], fake_server: FakeServer
) -> None:
    fake_server.script(turn("Which?", "one"))
    assert shortlist("chat", "Films") == 0
    assert 20 < fake_server.received[0].time_remaining_s <= 30
