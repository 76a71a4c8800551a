"""Queries in words where a service embeds: the providers' own SDKs against a service on a real
socket that misbehaves, over the real server.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import text_world
from conftest import RunningServer
from llm_behaviours import (
    Behaviour,
    answer,
    broken_body,
    broken_json,
    empty,
    hang,
    huge,
    not_finite,
    reset,
    slow,
    status,
    truncated,
    wrong_schema,
)
from llm_stub import LlmStub, embedding
from shortlist_client import (
    Client,
    DeadlineExceeded,
    Nearest,
    Text,
    TextEmbedderUnavailable,
)
from shortlist_server import serving
from shortlist_server.bundle.reader import open_bundle
from shortlist_server.config import ServerConfig
from shortlist_server.errors import NotConfigured
from shortlist_server.labels import LabeledGenerations

WORDS = "a heist in a dream"
PROVIDERS = ["gemini", "openai-compatible"]
SHORT_S = 1.0
"""Deadline of calls that the service lets run out of time."""


@pytest.fixture(scope="module", params=PROVIDERS)
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def exported(provider: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with LlmStub() as stub:
        return text_world.write_service_bundle(tmp_path_factory.mktemp(provider), stub, provider)


@pytest.fixture
def stub() -> Iterator[LlmStub]:
    with LlmStub() as stub:
        yield stub


@contextmanager
def loaded(bundle: Path, section: dict[str, Any]) -> Iterator[LabeledGenerations]:
    config = ServerConfig.model_validate({"bundle": bundle, "text_embedder": section})
    generations = serving.load(config, {"stable": bundle})
    yield generations
    generations.close()


@pytest.fixture
def ask(
    exported: Path, stub: LlmStub, provider: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Client]]:
    """Returns a client of a server whose section has some changes."""
    ends: list[Any] = []

    def make(**changes: Any) -> Client:
        bounds = {"breaker_patience_ms": 100, "answer_bytes_max": 1 << 16}
        section = text_world.service_section(stub, provider, **bounds | changes)
        context = loaded(exported, section)
        generations = context.__enter__()
        server = RunningServer(exported, generations)
        client = Client(server.target, timeout_s=60)
        ends.extend([lambda: context.__exit__(None, None, None), server.stop, client.close])
        return client

    yield make
    for end in reversed(ends):
        end()


def ids(found: Any) -> list[str]:
    return [item.id for item in found.items]


def nearest(bundle: Path, text: str) -> list[str]:
    """The ids of the items with a text, by a scan by hand."""
    opened = open_bundle(bundle)
    assert opened.texts is not None
    point = np.array(embedding(text, 16), np.float32)
    scores = opened.texts.embeddings @ (point / np.linalg.norm(point))
    order = np.argsort(-scores, kind="stable")
    return [opened.item_ids[opened.texts.rows[place]] for place in order]


def test_a_text_finds_what_is_nearest_by_the_service(
    ask: Callable[..., Client], exported: Path, stub: LlmStub, provider: str
) -> None:
    client = ask()
    found = client.recommend(text=WORDS, limit=50)
    assert ids(found) == nearest(exported, WORDS)[:50]
    assert found.info.sources[0].plan == "text: exact 50 of 50"
    assert [asked.texts for asked in stub.asked] == [[WORDS]]
    if provider == "gemini":
        (request,) = stub.asked[0].body["requests"]
        assert request["taskType"] == "RETRIEVAL_QUERY"


def test_a_text_that_was_asked_before_costs_no_call(
    ask: Callable[..., Client], stub: LlmStub
) -> None:
    client = ask()
    first = client.recommend(text=WORDS, limit=5)
    stub.behave(status(500))
    assert ids(client.recommend(text=WORDS, limit=5)) == ids(first)
    assert len(stub.asked) == 1


def test_callers_who_ask_the_same_at_once_share_a_call(
    ask: Callable[..., Client], stub: LlmStub
) -> None:
    client = ask()
    stub.behave(slow(0.5))
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(ids(client.recommend(text=WORDS, limit=5))))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert all(one == found[0] for one in found)
    assert len(stub.asked) == 1


INVALID = "LLM_INVALID_OUTPUT"
UNAVAILABLE = "LLM_UNAVAILABLE"
FAILURES: dict[str, tuple[Behaviour, set[str]]] = {
    "status 500": (status(500), {UNAVAILABLE}),
    "status 401": (status(401), {UNAVAILABLE}),
    "status 429": (status(429, retry_delay_s=90), {UNAVAILABLE}),
    "broken body": (broken_body(), {INVALID}),
    "broken JSON": (broken_json(), {INVALID}),
    "truncated": (truncated(), {INVALID}),
    "empty": (empty(), {INVALID}),
    "wrong dimension": (wrong_schema(), {INVALID}),
    "not finite": (not_finite(), {INVALID}),
    "huge": (huge(1 << 20), {INVALID, UNAVAILABLE}),
    "reset": (reset(), {UNAVAILABLE}),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_service_that_fails_is_unavailable_for_a_text_alone(
    ask: Callable[..., Client], stub: LlmStub, name: str
) -> None:
    behaviour, problems = FAILURES[name]
    client = ask(breaker_calls_min=20)
    stub.behave(behaviour)
    with pytest.raises(TextEmbedderUnavailable) as refused:
        client.recommend(text=WORDS)
    assert refused.value.reason == "TEXT_EMBEDDER_UNAVAILABLE"
    assert refused.value.metadata["problem"] in problems
    assert refused.value.retry_delay_s == (90 if name == "status 429" else 1)
    assert stub.asked
    # It is as before, for those who ask something else, and when the service is well again.
    assert len(client.recommend(user="u1", limit=3).items) == 3
    stub.behave(answer())
    assert len(client.recommend(text=WORDS, limit=5).items) == 5


@pytest.mark.parametrize("name", FAILURES)
def test_beside_other_sources_the_text_is_left_out_with_the_reason(
    ask: Callable[..., Client], stub: LlmStub, name: str
) -> None:
    behaviour, problems = FAILURES[name]
    client = ask(breaker_calls_min=20)
    stub.behave(behaviour)
    found = client.recommend(user="u1", text=WORDS, sources=[Text(), Nearest()], limit=3)
    assert {item.source for item in found.items} == {"two_tower"}
    assert len(found.items) == 3
    (part,) = found.info.degraded
    assert (part.stage, part.source) == ("retrieval", "text")
    assert part.reason in problems
    assert [source.outcome for source in found.info.sources] == ["FAILED", "OK"]


@pytest.mark.parametrize("behaviour", [hang(), slow(30)], ids=["hang", "slow"])
def test_a_service_that_is_too_slow_keeps_no_call_beyond_its_deadline(
    ask: Callable[..., Client], stub: LlmStub, behaviour: Behaviour
) -> None:
    client = ask()
    stub.behave(behaviour)
    with pytest.raises(DeadlineExceeded):
        client.recommend(text=WORDS, timeout_s=SHORT_S)
    # Nor does the call of the service go on: nobody waits for it.
    stub.wait_cancelled(1)
    found = client.recommend(
        user="u1", text=WORDS, sources=[Text(), Nearest()], limit=3, timeout_s=SHORT_S
    )
    assert len(found.items) == 3
    assert [(part.source, part.reason) for part in found.info.degraded] == [("text", "OUT_OF_TIME")]
    assert found.info.sources[0].outcome == "OUT_OF_TIME"
    stub.wait_cancelled(2)


def test_a_service_slower_than_its_own_bound_is_unavailable(
    ask: Callable[..., Client], stub: LlmStub
) -> None:
    client = ask(timeout_ms=200)
    stub.behave(hang())
    with pytest.raises(TextEmbedderUnavailable) as refused:
        client.recommend(text=WORDS)
    assert refused.value.metadata["problem"] == "LLM_TIMEOUT"


def test_one_that_is_asked_too_often_is_asked_again_when_it_says(
    ask: Callable[..., Client], exported: Path, stub: LlmStub
) -> None:
    client = ask()
    stub.behave(status(429, retry_delay_s=0.2), status(503), answer())
    assert ids(client.recommend(text=WORDS, limit=5)) == nearest(exported, WORDS)[:5]
    first, second, *others = [asked.began for asked in stub.asked]
    assert second - first >= 0.2
    assert len(others) == 1


def test_one_that_is_away_is_not_asked_for_a_while(
    ask: Callable[..., Client], stub: LlmStub
) -> None:
    client = ask(breaker_calls_min=2, breaker_open_ms=60_000)
    stub.behave(status(500))
    for number in range(3):
        with pytest.raises(TextEmbedderUnavailable) as refused:
            client.recommend(text=f"{WORDS} {number}")
    assert refused.value.metadata["problem"] == "LLM_BREAKER_OPEN"
    assert refused.value.retry_delay_s is not None
    assert refused.value.retry_delay_s > 30
    assert len(stub.asked) == 2
    assert len(client.recommend(user="u1", limit=3).items) == 3


def test_many_callers_of_one_that_hangs_are_all_answered_in_time(
    ask: Callable[..., Client], stub: LlmStub
) -> None:
    client = ask(concurrency_max=2, waiting_max=2)
    stub.behave(hang())
    ends: list[str] = []

    def call(number: int) -> None:
        try:
            found = client.recommend(
                user="u1",
                text=f"{WORDS} {number}",
                sources=[Text(), Nearest()],
                timeout_s=2 * SHORT_S,
            )
            ends.append(found.info.degraded[0].reason)
        except Exception as error:
            ends.append(type(error).__name__)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(ends) == 40
    assert set(ends) <= {
        "OUT_OF_TIME",
        "LLM_TIMEOUT",
        "LLM_BUDGET_EXCEEDED",
        "LLM_BREAKER_OPEN",
        "Overloaded",
    }
    stub.behave(answer())
    assert len(client.recommend(user="u1", limit=3).items) == 3


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model": "e-2"}, r"text_embedder\.model: expected 'e-1', .*bundle tiny 1.* not 'e-2'"),
        ({"dimension": 8}, r"text_embedder\.dimension: expected 16, .* not 8"),
        ({"query_prefix": "query: "}, r"text_embedder\.query_prefix: expected '', "),
        ({"item_prefix": "item: "}, r"text_embedder\.item_prefix: expected '', "),
    ],
)
def test_another_service_than_the_one_that_embedded_the_items_is_refused(
    exported: Path, stub: LlmStub, provider: str, changes: dict[str, Any], problem: str
) -> None:
    section = text_world.service_section(stub, provider, **changes)
    with pytest.raises(NotConfigured, match=problem), loaded(exported, section):
        pass


def test_the_same_models_by_another_api_are_refused(
    exported: Path, stub: LlmStub, provider: str
) -> None:
    other = next(name for name in PROVIDERS if name != provider)
    section = text_world.service_section(stub, other)
    with pytest.raises(NotConfigured, match=r"text_embedder\.provider"), loaded(exported, section):
        pass
