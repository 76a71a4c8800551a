"""Converse where the bundle's items have texts: the taste in words finds them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import text_world
import tiny_embedder
from conftest import RunningServer
from conversing import Talk
from llm_behaviours import status
from llm_stub import LlmStub
from shortlist.v1 import types_pb2
from shortlist_server import serving
from shortlist_server.config import ServerConfig
from shortlist_server.generation import load_generation

PLOTS = text_world.plots()
TASTE = " ".join(tiny_embedder.WORDS[:2])


@pytest.fixture(scope="module")
def channel(text_bundle: Path) -> Iterator[grpc.Channel]:
    generation = load_generation(text_bundle)
    running = RunningServer(text_bundle, generation)
    with grpc.insecure_channel(running.target) as opened:
        yield opened
    running.stop()
    generation.close()


@pytest.mark.parametrize("user", ["u1", ""])
def test_the_words_of_a_turn_find_items_by_their_texts(user: str, channel: grpc.Channel) -> None:
    talk = Talk(channel, user=user, limit=4)
    first = talk.say(TASTE)
    assert len(first.items) == 4
    by_text = [item for item in first.items if item.source == "text"]
    # Of what suits the user anyway there are no more than half as many as are wanted.
    assert len(by_text) >= 2
    assert all(item.id in PLOTS for item in by_text)
    second = talk.say(TASTE)
    assert not set(first.ids) & set(second.ids)


def test_texts_are_searched_within_the_conditions(channel: grpc.Channel) -> None:
    talk = Talk(channel, limit=3)
    talk.say("Films")
    state = talk.so_far["state"]
    state.conditions.add(attribute="genres", comparison=1).values.add(string_value="Comedy")
    answered = talk.say(TASTE, state=state)
    assert "text" in {item.source for item in answered.items}
    for item in answered.items:
        assert "Comedy" in item.attributes["genres"].string_list.values


def test_items_without_a_text_fill_up_where_few_have_one(channel: grpc.Channel) -> None:
    found = []
    talk = Talk(channel, user="u1", limit=20)
    while (answered := talk.say(TASTE)).items:
        found += answered.ids
    # All that the user has not seen, in the end.
    assert len(found) == len(set(found)) >= 50
    assert set(found) - set(PLOTS)


@pytest.mark.parametrize("user", ["u1", ""])
def test_a_turn_is_answered_where_the_service_that_embeds_is_away(
    user: str, tmp_path: Path
) -> None:
    with LlmStub() as stub:
        bundle = text_world.write_service_bundle(tmp_path, stub, "openai-compatible")
        section = text_world.service_section(stub, "openai-compatible")
        config = ServerConfig.model_validate({"bundle": bundle, "text_embedder": section})
        generations = serving.load(config, {"stable": bundle})
        running = RunningServer(bundle, generations)
        with grpc.insecure_channel(running.target) as channel:
            well = Talk(channel, user=user).say(TASTE)
            stub.behave(status(500))
            answered = Talk(channel, user=user).say(f"{TASTE} film")
        running.stop()
        generations.close()
    assert "text" in {item.source for item in well.items}
    assert not [one for one in well.end.degraded if one.stage == "retrieval"]
    assert len(answered.items) == 3
    (part,) = [one for one in answered.end.degraded if one.stage == "retrieval"]
    assert part.source == "text"
    assert part.reason == types_pb2.DEGRADED_REASON_LLM_UNAVAILABLE


@pytest.mark.parametrize("user", ["u1", ""])
def test_a_turn_is_answered_where_nothing_embeds_its_words(
    user: str, text_bundle: Path, tmp_path: Path
) -> None:
    bundle = text_world.of_service(text_bundle, tmp_path / "bundle", "openai-compatible/e-1")
    generation = load_generation(bundle)
    running = RunningServer(bundle, generation)
    with grpc.insecure_channel(running.target) as channel:
        answered = Talk(channel, user=user).say(TASTE)
    running.stop()
    generation.close()
    assert len(answered.items) == 3
    assert ("retrieval", "text") in [(one.stage, one.source) for one in answered.end.degraded]
