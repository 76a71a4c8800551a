"""Every provider's own SDK, against a language model on a real socket that misbehaves."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import sys
import traceback
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import llm_behaviours as behave
import pytest
from llm_providers import CLASSES, KEY, TESTED, make_embedder, make_model
from llm_stub import INPUT_TOKENS, OUTPUT_TOKENS, LlmStub, embedding, json_blocks, reverse_handles
from shortlist_server.errors import MissingExtra
from shortlist_server.llm.language_model import (
    LanguageModelError,
    LlmBlocked,
    LlmInvalidOutput,
    LlmOverloaded,
    LlmTimeout,
    LlmUnavailable,
    Message,
    TokenUsage,
)

SCHEMA = {
    "type": "object",
    "properties": {"order": {"type": "array", "items": {"type": "string"}, "minItems": 3}},
    "required": ["order"],
    "additionalProperties": False,
}
SECRET = "whisper this to nobody"
PROMPT = (
    Message(role="system", text=f"Order the candidates; {SECRET}."),
    Message(role="user", text=f"{json.dumps({'candidates': [{'handle': h} for h in 'abcd']})}"),
)
TALK = (
    Message(role="system", text="Be brief."),
    Message(role="user", text="something dark"),
    Message(role="assistant", text="How about Heat?"),
    Message(role="user", text="and something older"),
)


@pytest.fixture(params=TESTED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def model(name: str, stub: LlmStub, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Any]:
    caplog.set_level(logging.DEBUG)
    stub.key = KEY
    stub.rule = reverse_handles("order")
    model = make_model(name, stub, answer_bytes_max=1 << 16)
    yield model
    await model.close()
    assert KEY not in caplog.text
    assert SECRET not in caplog.text


@pytest.fixture
async def embedder(name: str, stub: LlmStub) -> AsyncIterator[Any]:
    stub.key = KEY
    embedder = make_embedder(name, stub, texts_max=100)
    yield embedder
    await embedder.close()


def assert_says_nothing(error: BaseException | None) -> None:
    """Neither the message nor anything that hangs on the error holds the key or the prompt."""
    assert isinstance(error, LanguageModelError)
    assert error.__cause__ is None
    assert error.__context__ is None
    for text in (str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)):
        assert KEY not in text
        assert SECRET not in text


def completion(model: Any, deadline_s: float = 10.0) -> Any:
    return model.complete(PROMPT, SCHEMA, deadline_s=deadline_s)


async def read(model: Any, deadline_s: float = 10.0, **more: Any) -> tuple[list[str], Any]:
    """The pieces of a stream, and the error that it ended with."""
    pieces: list[str] = []
    try:
        async for piece in model.stream(TALK, deadline_s=deadline_s, **more):
            pieces += [piece]  # what came before an error is wanted
    except LanguageModelError as error:
        assert_says_nothing(error)
        return pieces, error
    return pieces, None


async def test_the_answer_is_an_object_of_the_schema(model: Any, stub: LlmStub, name: str) -> None:
    answer = await completion(model)
    assert answer.value == {"order": ["d", "c", "b", "a"]}
    assert answer.usage == TokenUsage(input_tokens=INPUT_TOKENS, output_tokens=OUTPUT_TOKENS)
    (asked,) = stub.asked
    assert asked.messages == [(one.role, one.text) for one in PROMPT]
    assert asked.model == "m-1"
    assert asked.schema is not None
    assert asked.schema["properties"]["order"]["items"]["type"] == "string"
    assert asked.schema["required"] == ["order"]
    assert KEY not in asked.path
    assert model.identity == f"{name}/m-1"


async def test_what_is_late_but_in_time_counts(model: Any, stub: LlmStub) -> None:
    stub.behave(behave.slow(0.1))
    assert (await completion(model)).value["order"] == ["d", "c", "b", "a"]


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (behave.status(400), LlmUnavailable),
        (behave.status(401), LlmUnavailable),
        (behave.status(404), LlmUnavailable),
        (behave.status(429), LlmOverloaded),
        (behave.status(500), LlmUnavailable),
        (behave.status(503), LlmOverloaded),
        (behave.status(504), LlmTimeout),
        (behave.reset(), LlmUnavailable),
        (behave.broken_json(), LlmInvalidOutput),
        (behave.broken_body(), LlmInvalidOutput),
        (behave.truncated(), LlmInvalidOutput),
        (behave.wrong_schema(), LlmInvalidOutput),
        (behave.empty(), LlmInvalidOutput),
        (behave.empty_text(), LlmInvalidOutput),
        (behave.huge(1 << 20), LlmInvalidOutput),
        (behave.blocked(), LlmBlocked),
        (behave.blocked_prompt(), LlmBlocked),
    ],
    ids=lambda value: value.kind + str(value.status) if hasattr(value, "kind") else "",
)
async def test_each_fault_has_its_error(
    model: Any, stub: LlmStub, behaviour: behave.Behaviour, expected: type[LanguageModelError]
) -> None:
    stub.behave(behaviour)
    with pytest.raises(LanguageModelError) as caught:
        await completion(model)
    assert type(caught.value) is expected
    assert_says_nothing(caught.value)
    # google.auth, below the old SDK, shows a refused key again.
    tries = 3 if model.identity.startswith("gemini-legacy/") and behaviour.status == 401 else 1
    assert len(stub.asked) == tries, "the SDK must not retry"
    if behaviour.kind in ("truncated", "broken_json", "wrong_schema", "blocked"):
        assert caught.value.usage is not None
        assert caught.value.usage.input_tokens == INPUT_TOKENS
    stub.behave(behave.answer())
    assert (await completion(model)).value["order"] == ["d", "c", "b", "a"]


async def test_a_response_is_not_read_beyond_its_bound(
    model: Any, stub: LlmStub, name: str
) -> None:
    if name == "gemini-legacy":
        pytest.skip("its SDK reads all there is")
    stub.behave(behave.huge(8 << 20))
    with pytest.raises(LlmInvalidOutput, match="larger than answer_bytes_max"):
        await completion(model)


async def test_wrong_handles_are_answers_by_the_schema(model: Any, stub: LlmStub) -> None:
    stub.behave(behave.duplicate_handles(), behave.foreign_handles())
    assert (await completion(model)).value == {"order": ["d", "d", "b", "a"]}
    assert (await completion(model)).value == {"order": ["nobody sent this", "c", "b", "a"]}


@pytest.mark.parametrize(("status", "delay_s"), [(429, 1.5), (503, 20.0)])
async def test_the_retry_delay_that_it_sends_is_kept(
    model: Any, stub: LlmStub, status: int, delay_s: float
) -> None:
    stub.behave(behave.status(status, retry_delay_s=delay_s))
    with pytest.raises(LlmOverloaded) as caught:
        await completion(model)
    assert caught.value.retry_delay_s == delay_s


async def test_a_wrong_key_is_not_repeated(
    model: Any, stub: LlmStub, caplog: pytest.LogCaptureFixture
) -> None:
    stub.key = "another"
    with pytest.raises(LlmUnavailable, match="the key") as caught:
        await completion(model)
    assert_says_nothing(caught.value)


async def test_the_call_ends_at_its_deadline_and_is_cancelled(model: Any, stub: LlmStub) -> None:
    stub.behave(behave.hang())
    with pytest.raises(LlmTimeout, match="300 ms") as caught:
        await completion(model, 0.3)
    assert_says_nothing(caught.value)
    stub.wait_cancelled()


async def test_the_callers_cancellation_is_the_calls(model: Any, stub: LlmStub) -> None:
    stub.behave(behave.hang())
    task = asyncio.ensure_future(completion(model, 0.5))
    await asyncio.to_thread(stub.wait_asked)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(stub.wait_cancelled)


async def test_nobody_there_is_unavailable(name: str) -> None:
    with LlmStub() as gone:
        pass
    model = make_model(name, gone)
    with pytest.raises(LlmUnavailable, match="cannot be reached") as caught:
        await completion(model)
    assert_says_nothing(caught.value)
    await model.close()


async def test_text_comes_piece_by_piece(model: Any, stub: LlmStub) -> None:
    used: list[TokenUsage] = []
    pieces, error = await read(model, on_usage=used.append)
    assert error is None
    assert pieces == ["AND SOMET", "HING OLDER"]
    assert used == [TokenUsage(input_tokens=INPUT_TOKENS, output_tokens=OUTPUT_TOKENS)]
    assert stub.asked[0].messages == [(one.role, one.text) for one in TALK]


@pytest.mark.parametrize(
    ("behaviour", "expected", "pieces"),
    [
        (behave.status(429), LlmOverloaded, 0),
        (behave.status(500), LlmUnavailable, 0),
        (behave.reset(), LlmUnavailable, 1),
        (behave.truncated(), LlmInvalidOutput, 2),
        (behave.broken_json(), LlmInvalidOutput, 1),
        (behave.unfinished(), LlmInvalidOutput, 1),
        (behave.empty(), LlmInvalidOutput, 0),
        (behave.blocked(), LlmBlocked, 2),
        (behave.blocked_prompt(), LlmBlocked, 0),
        (behave.hang(), LlmTimeout, 1),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
async def test_each_fault_of_a_stream_has_its_error(
    model: Any,
    stub: LlmStub,
    behaviour: behave.Behaviour,
    expected: type[LanguageModelError],
    pieces: int,
) -> None:
    stub.behave(behaviour)
    found, error = await read(model, 1.0 if expected is LlmTimeout else 10.0)
    assert type(error) is expected
    assert "AND SOMETHING OLDER".startswith("".join(found))
    assert len(found) == pieces
    if expected is LlmTimeout:
        await asyncio.to_thread(stub.wait_cancelled)


async def test_a_stream_is_not_read_beyond_its_bound(model: Any, stub: LlmStub, name: str) -> None:
    if name == "gemini-legacy":
        pytest.skip("its SDK reads all there is")
    stub.behave(behave.huge(8 << 20))
    pieces, error = await read(model)
    assert type(error) is LlmInvalidOutput
    assert len("".join(pieces)) < 1 << 17


async def test_a_stream_that_nobody_reads_on_is_cancelled(model: Any, stub: LlmStub) -> None:
    stub.behave(behave.hang())
    async with aclosing(model.stream(TALK, deadline_s=1.0)) as pieces:
        async for _ in pieces:
            break
    await asyncio.to_thread(stub.wait_cancelled)


async def test_embeddings_are_at_unit_length(embedder: Any, stub: LlmStub, name: str) -> None:
    texts = ["a heist in a dream", "ship hits iceberg", ""]
    points = await embedder.embed(texts, kind="item", deadline_s=10)
    assert points.dtype == "float32"
    assert points.shape == (3, 16)
    for text, point in zip(["a heist in a dream", "ship hits iceberg", " "], points, strict=True):
        raw = embedding(text, 16)
        length = sum(one * one for one in raw) ** 0.5
        assert point.tolist() == pytest.approx([one / length for one in raw], abs=1e-6)
    assert embedder.identity == f"{name}/e-1/16"
    assert embedder.dimension == 16


async def test_no_texts_are_not_asked_for(embedder: Any, stub: LlmStub) -> None:
    points = await embedder.embed([], kind="query", deadline_s=10)
    assert points.shape == (0, 16)
    assert stub.asked == []


async def test_many_texts_go_in_several_requests(embedder: Any, stub: LlmStub) -> None:
    texts = [f"text {number}" for number in range(250)]
    points = await embedder.embed(texts, kind="item", deadline_s=20)
    assert [len(asked.texts) for asked in stub.asked] == [100, 100, 50]
    single = await embedder.embed(["text 249"], kind="item", deadline_s=10)
    assert points[249].tolist() == single[0].tolist()


async def test_long_texts_are_cut_and_prefixed(name: str, stub: LlmStub) -> None:
    embedder = make_embedder(
        name, stub, query_prefix="query: ", item_prefix="passage: ", text_characters_max=12
    )
    for kind in ("query", "item"):
        await embedder.embed(["0123456789"], kind=kind, deadline_s=10)
    assert [asked.texts for asked in stub.asked] == [["query: 01234"], ["passage: 012"]]
    await embedder.close()


async def test_gemini_is_told_what_the_texts_are(embedder: Any, stub: LlmStub, name: str) -> None:
    if not name.startswith("gemini"):
        pytest.skip("others know no task types")
    for kind in ("query", "item"):
        await embedder.embed(["one", "two"], kind=kind, deadline_s=10)
    tasks = [[one["taskType"] for one in asked.body["requests"]] for asked in stub.asked]
    query, item = ("RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT")
    numbered = {1: query, 2: item}
    assert [[numbered.get(task, task) for task in one] for one in tasks] == [
        [query] * 2,
        [item] * 2,
    ]


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (behave.empty(), LlmInvalidOutput),
        (behave.wrong_schema(), LlmInvalidOutput),
        (behave.broken_body(), LlmInvalidOutput),
        (behave.status(429, retry_delay_s=3), LlmOverloaded),
        (behave.status(500), LlmUnavailable),
        (behave.reset(), LlmUnavailable),
        (behave.hang(), LlmTimeout),
    ],
    ids=lambda value: value.kind + str(value.status) if hasattr(value, "kind") else "",
)
async def test_each_fault_of_embeddings_has_its_error(
    embedder: Any, stub: LlmStub, behaviour: behave.Behaviour, expected: type[LanguageModelError]
) -> None:
    stub.behave(behaviour)
    deadline_s = 0.5 if expected is LlmTimeout else 10
    with pytest.raises(LanguageModelError) as caught:
        await embedder.embed([SECRET, "two"], kind="query", deadline_s=deadline_s)
    assert type(caught.value) is expected
    assert_says_nothing(caught.value)
    if expected is LlmTimeout:
        await asyncio.to_thread(stub.wait_cancelled)
    assert len(stub.asked) == 1


@pytest.mark.parametrize("missing", ["google.genai", "openai", "httpx2"])
async def test_a_missing_extra_is_named(
    stub: LlmStub, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if "gemini-legacy" in TESTED:
        pytest.skip("the others are not there")
    # It settles what it is compatible with when it is first imported, for the tests to come, too.
    importlib.import_module("google.genai.types")
    # `from google import genai` takes what is an attribute of the package before it looks further.
    if missing == "google.genai":
        monkeypatch.delattr(sys.modules["google"], "genai", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    name = "openai-compatible" if missing == "openai" else "gemini"
    for make in (make_model, make_embedder):
        with pytest.raises(MissingExtra, match=r"pip install 'shortlist\[llm\]'"):
            make(name, stub)


def test_all_providers_are_named() -> None:
    assert set(TESTED) <= set(CLASSES)
    assert list(json_blocks('see {"a": [1]} and [2] {no')) == [{"a": [1]}, [2]]
