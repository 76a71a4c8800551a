"""No call outlives its deadline, costs more than it may, or is made in vain."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import llm_behaviours as behave
import pytest
from llm_observer import Noted
from llm_providers import TESTED, make_model
from llm_stub import INPUT_TOKENS, OUTPUT_TOKENS, LlmStub, reverse_handles
from shortlist_server.llm.answer_cache import AnswerCache, MemoryCache
from shortlist_server.llm.breaker import BreakerOptions
from shortlist_server.llm.cost import HourBudget, Prices, estimated_tokens
from shortlist_server.llm.guard import GuardOptions
from shortlist_server.llm.guarded_model import GuardedLanguageModel
from shortlist_server.llm.language_model import (
    Completion,
    LanguageModelError,
    LlmBreakerOpen,
    LlmBudgetExceeded,
    LlmInvalidOutput,
    LlmOverloaded,
    LlmTimeout,
    LlmUnavailable,
    Message,
    TokenUsage,
)
from shortlist_server.llm.own_loop import OwnLoopProvider

SCHEMA = {
    "type": "object",
    "properties": {"order": {"type": "array", "items": {"type": "string"}}},
    "required": ["order"],
}
PROMPT = (
    Message(role="user", text=json.dumps({"candidates": [{"handle": one} for one in "abc"]})),
)
PRICES = Prices(input_million=1_000.0, output_million=2_000.0)
COST = (INPUT_TOKENS * 1_000 + OUTPUT_TOKENS * 2_000) / 1e6
# Tests that are not about it must not meet it.
NEVER = BreakerOptions(calls_min=1_000, calls=1_000)


class World:
    """A guarded model of a real SDK, the stub that it asks, and what was observed."""

    def __init__(self, name: str, stub: LlmStub, *, own_loop: bool) -> None:
        self.name = name
        self.own_loop = own_loop
        self.stub = stub
        self.noted = Noted()
        self.models: list[GuardedLanguageModel] = []
        stub.rule = reverse_handles("order")

    def model(
        self,
        cache: AnswerCache | None = None,
        money_max: float | None = None,
        provider: Any = None,
        settings: str = "",
        **options: Any,
    ) -> GuardedLanguageModel:
        if provider is None:
            provider = (
                OwnLoopProvider(lambda: make_model(self.name, self.stub))
                if self.own_loop
                else make_model(self.name, self.stub)
            )
        made = GuardedLanguageModel(
            provider,
            GuardOptions(**{"breaker": NEVER, "prices": PRICES} | options),
            cache=cache or MemoryCache(bytes_max=1 << 20, ttl_s=60),
            budget=HourBudget(money_max),
            observer=self.noted,
            settings=settings,
        )
        self.models.append(made)
        return made


@pytest.fixture(params=[False, True], ids=["one loop", "own loop"])
async def world(request: pytest.FixtureRequest, stub: LlmStub) -> AsyncIterator[World]:
    # The guard does not see which SDK it is; all of them pass test_providers.
    world = World(TESTED[0], stub, own_loop=request.param)
    yield world
    for model in world.models:
        await model.close()


class Deaf:
    """A provider that does not heed cancellation; it ends when told."""

    identity = "deaf/1"

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self.calls = 0

    async def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any], **_: Any
    ) -> Completion:
        self.calls += 1
        while not self.end.is_set():
            try:
                await self.end.wait()
            except asyncio.CancelledError:
                continue
        return Completion(value={"order": []}, usage=TokenUsage())

    async def stream(
        self,
        messages: Sequence[Message],
        *,
        deadline_s: float,
        on_usage: Callable[[TokenUsage], None] | None = None,
    ) -> AsyncGenerator[str, None]:
        await self.complete(messages, {})
        yield "late"

    async def close(self) -> None:
        pass


def ask(model: GuardedLanguageModel, text: str = "", deadline_s: float = 10.0) -> Any:
    prompt = (*PROMPT, Message(role="user", text=text)) if text else PROMPT
    return model.complete(prompt, SCHEMA, deadline_s=deadline_s)


async def test_the_answer_says_what_it_cost(world: World) -> None:
    answer = await ask(world.model())
    assert answer.value == {"order": ["c", "b", "a"]}
    assert answer.cost == pytest.approx(COST)
    assert not answer.cached
    assert world.noted.spent == [(INPUT_TOKENS, OUTPUT_TOKENS, pytest.approx(COST))]
    assert world.noted.outcomes == ["OK"]


async def test_the_same_question_is_answered_from_the_cache(world: World) -> None:
    model = world.model()
    first = await ask(model)
    second = await ask(model)
    assert second == Completion(value=first.value, usage=TokenUsage(), cached=True)
    assert len(world.stub.asked) == 1
    assert world.noted.outcomes == ["OK", "CACHED"]
    assert (world.noted.hits, world.noted.misses) == (1, 1)
    second.value["order"].append("mine")
    assert (await ask(model)).value == {"order": ["c", "b", "a"]}


async def test_another_question_version_model_or_setting_is_not(world: World) -> None:
    cache = MemoryCache(bytes_max=1 << 20, ttl_s=60)
    model = world.model(cache)
    await ask(model)
    await ask(model, "please")
    await model.complete(PROMPT, SCHEMA, deadline_s=10, prompt_version="2")
    await model.complete(PROMPT, SCHEMA | {"title": "Order"}, deadline_s=10)
    provider = make_model(world.name, world.stub, model="m-2")
    await ask(world.model(cache, provider=provider))
    await ask(world.model(cache, settings="temperature 1"))
    assert len(world.stub.asked) == 6
    await ask(world.model(cache))
    assert len(world.stub.asked) == 6


async def test_a_cache_that_lies_is_a_miss(world: World) -> None:
    class Lying(MemoryCache):
        async def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
            return [self.lie for _ in keys]

    for lie in (b"no JSON", b'{"order": 7}', b"[]", b"\xff"):
        cache = Lying(bytes_max=0, ttl_s=1)
        cache.lie = lie
        model = world.model(cache)
        assert (await ask(model)).value == {"order": ["c", "b", "a"]}
    assert world.noted.misses == 4


async def test_what_cannot_be_used_is_not_kept(world: World) -> None:
    model = world.model()
    world.stub.behave(behave.broken_json(), behave.answer())
    with pytest.raises(LlmInvalidOutput) as caught:
        await ask(model)
    assert (await ask(model)).value == {"order": ["c", "b", "a"]}
    assert world.noted.outcomes == ["LLM_INVALID_OUTPUT", "OK"]
    # It was an answer, and is paid for.
    assert caught.value.cost == pytest.approx(COST)
    assert len(world.noted.spent) == 2
    assert world.noted.spent[0] == world.noted.spent[1]


async def test_an_object_of_no_use_is_returned_but_not_kept(world: World) -> None:
    cache = MemoryCache(bytes_max=1 << 20, ttl_s=60)
    model = world.model(cache)

    def usable(value: Mapping[str, Any]) -> bool:
        return len(set(value["order"])) == 3

    async def ask_usable() -> Completion:
        return await model.complete(PROMPT, SCHEMA, deadline_s=10, usable=usable)

    world.stub.behave(behave.duplicate_handles(), behave.answer())
    assert (await ask_usable()).value == {"order": ["c", "c", "a"]}
    assert cache.size_bytes == 0
    assert (await ask_usable()).value == {"order": ["c", "b", "a"]}
    assert (await ask_usable()).cached
    # The same where it was kept by somebody to whom it was of use.
    world.stub.behave(behave.duplicate_handles(), behave.answer())
    await ask(model, "please")
    prompt = (*PROMPT, Message(role="user", text="please"))
    answer = await model.complete(prompt, SCHEMA, deadline_s=10, usable=usable)
    assert (answer.value, answer.cached) == ({"order": ["c", "b", "a"]}, False)
    assert (await ask(model, "please")).value == answer.value


async def test_a_hanging_call_ends_at_the_deadline_and_is_cancelled(world: World) -> None:
    world.stub.behave(behave.hang())
    # Long enough for the call to arrive, also from a busy machine.
    model = world.model()
    with pytest.raises(LlmTimeout, match="2000 ms") as caught:
        await ask(model, deadline_s=2.0)
    await asyncio.to_thread(world.stub.wait_cancelled)
    assert world.noted.outcomes == ["LLM_TIMEOUT"]
    await asyncio.gather(*model._guard._tasks, return_exceptions=True)
    # Nobody says what it cost: what was asked is paid.
    tokens = estimated_tokens([PROMPT[0].text])
    cost = pytest.approx(tokens * 1_000 / 1e6)
    assert world.noted.spent == [(tokens, 0, cost)]
    assert (caught.value.usage, caught.value.cost) == (TokenUsage(input_tokens=tokens), cost)


async def test_who_is_deaf_to_cancellation_is_left_alone(world: World) -> None:
    deaf = Deaf()
    model = world.model(provider=deaf, concurrency_max=1, waiting_max=0)
    with pytest.raises(LlmTimeout):
        await ask(model, deadline_s=0.05)
    # It still holds its place.
    with pytest.raises(LlmBudgetExceeded, match="1 calls are under way"):
        await ask(model, "another")
    deaf.end.set()
    await asyncio.gather(*model._guard._tasks, return_exceptions=True)
    assert (await ask(model, "another")).value == {"order": []}


async def test_a_deadline_that_has_passed_asks_nobody(world: World) -> None:
    for deadline_s in (0.0, -1.0, float("nan")):
        with pytest.raises(LlmBudgetExceeded, match="no time left"):
            await ask(world.model(), deadline_s=deadline_s)
    assert world.stub.asked == []


async def test_no_call_takes_longer_than_the_timeout(world: World) -> None:
    world.stub.behave(behave.hang())
    with pytest.raises(LlmTimeout, match="100 ms"):
        await ask(world.model(timeout_s=0.1), deadline_s=3_600)


async def test_the_same_question_is_asked_once_at_a_time(world: World) -> None:
    world.stub.behave(behave.slow(0.2))
    model = world.model(MemoryCache(bytes_max=0, ttl_s=1))
    answers = await asyncio.gather(*[ask(model) for _ in range(5)], ask(model, "another"))
    assert len(world.stub.asked) == 2
    assert [answer.value["order"] for answer in answers] == [["c", "b", "a"]] * 6
    assert len(world.noted.spent) == 2
    assert world.noted.outcomes == ["OK"] * 6


async def test_one_callers_end_is_not_the_others(world: World) -> None:
    world.stub.behave(behave.slow(0.4))
    model = world.model()
    stays = asyncio.ensure_future(ask(model))
    leaves = asyncio.ensure_future(ask(model))
    late = asyncio.ensure_future(ask(model, deadline_s=0.1))
    await asyncio.to_thread(world.stub.wait_asked)
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    with pytest.raises(LlmTimeout):
        await late
    assert (await stays).value == {"order": ["c", "b", "a"]}
    assert len(world.stub.asked) == 1
    assert not world.stub.asked[0].cancelled
    assert sorted(world.noted.outcomes) == ["CANCELLED", "LLM_TIMEOUT", "OK"]


async def test_the_last_caller_to_leave_cancels_the_call(world: World) -> None:
    world.stub.behave(behave.hang(), behave.answer())
    model = world.model()
    tasks = [asyncio.ensure_future(ask(model)) for _ in range(3)]
    await asyncio.to_thread(world.stub.wait_asked)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.to_thread(world.stub.wait_cancelled)
    # Who comes now does not join what was cancelled.
    assert (await ask(model)).value == {"order": ["c", "b", "a"]}


async def test_calls_at_a_time_are_bounded(world: World) -> None:
    world.stub.behave(behave.hang())
    model = world.model(concurrency_max=2, waiting_max=1)
    tasks = [
        asyncio.ensure_future(ask(model, str(number), deadline_s))
        for number, deadline_s in enumerate((4.0, 4.0, 2.0))
    ]
    await asyncio.to_thread(world.stub.wait_asked, 2)
    with pytest.raises(LlmBudgetExceeded, match="2 calls are under way, and 1 wait"):
        await ask(model, "one too many")
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    # The third waited for its turn until its time was over: the service never saw it.
    assert [type(end) for end in ends] == [LlmTimeout, LlmTimeout, LlmBudgetExceeded]
    assert len(world.stub.asked) == 2


@pytest.mark.parametrize("status", [429, 503])
async def test_it_comes_back_when_the_service_says(world: World, status: int) -> None:
    world.stub.behave(behave.status(status, retry_delay_s=0.3), behave.answer())
    assert (await ask(world.model())).value == {"order": ["c", "b", "a"]}
    first, second = world.stub.asked
    assert second.began - first.began >= 0.3
    assert world.noted.retries == 1
    assert world.noted.outcomes == ["OK"]


async def test_it_does_not_come_back_after_the_deadline(world: World) -> None:
    world.stub.behave(behave.status(429, retry_delay_s=30))
    with pytest.raises(LlmOverloaded):
        await ask(world.model(), deadline_s=5)
    assert len(world.stub.asked) == 1
    assert world.noted.spent == [(0, 0, 0.0)]


async def test_it_comes_back_so_often_and_no_more(world: World) -> None:
    world.stub.behave(behave.status(503, retry_delay_s=0.01))
    with pytest.raises(LlmOverloaded):
        await ask(world.model(retries_max=2))
    assert len(world.stub.asked) == 3


@pytest.mark.parametrize("behaviour", [behave.status(500), behave.reset(), behave.broken_json()])
async def test_other_faults_are_not_tried_again(world: World, behaviour: behave.Behaviour) -> None:
    world.stub.behave(behaviour)
    with pytest.raises(LanguageModelError):
        await ask(world.model())
    assert len(world.stub.asked) == 1


async def test_a_service_that_fails_is_left_alone_until_a_probe_succeeds(world: World) -> None:
    breaker = BreakerOptions(calls=4, calls_min=4, failure_share=0.5, open_s=10)
    model = world.model(breaker=breaker)
    now = [0.0]
    model._guard._breaker._clock = lambda: now[0]
    world.stub.behave(behave.status(500))
    for number in range(4):
        with pytest.raises(LlmUnavailable):
            await ask(model, str(number))
    with pytest.raises(LlmBreakerOpen, match="10000 ms"):
        await ask(model, "left alone")
    assert len(world.stub.asked) == 4
    now[0] = 10.0
    world.stub.behave(behave.slow(0.2))
    probe = asyncio.ensure_future(ask(model, "probe"))
    await asyncio.to_thread(world.stub.wait_asked, 5)
    with pytest.raises(LlmBreakerOpen, match="one is made now"):
        await ask(model, "beside the probe")
    await probe
    assert (await ask(model, "well again")).value == {"order": ["c", "b", "a"]}
    assert world.noted.breaker == ["closed", "open", "half_open", "closed"]


async def test_what_was_answered_is_answered_still_while_it_is_left_alone(world: World) -> None:
    model = world.model(breaker=BreakerOptions(calls_min=1, calls=1))
    await ask(model)
    world.stub.behave(behave.status(500))
    with pytest.raises(LlmUnavailable):
        await ask(model, "another")
    with pytest.raises(LlmBreakerOpen):
        await ask(model, "a third")
    assert (await ask(model)).cached


async def test_impatient_callers_do_not_open_the_breaker(world: World) -> None:
    world.stub.behave(behave.hang())
    model = world.model(breaker=BreakerOptions(calls_min=1, calls=1), patience_s=60)
    for number in range(2):
        with pytest.raises(LlmTimeout):
            await ask(model, str(number), 0.1)
    patient = world.model(breaker=BreakerOptions(calls_min=1, calls=1), patience_s=0.05)
    with pytest.raises(LlmTimeout):
        await ask(patient, deadline_s=0.1)
    await asyncio.gather(*patient._guard._tasks, return_exceptions=True)
    with pytest.raises(LlmBreakerOpen):
        await ask(patient)


async def test_an_hour_costs_no_more_than_it_may(world: World) -> None:
    model = world.model(money_max=1.5 * COST)
    await ask(model, "first")
    await ask(model, "second")
    with pytest.raises(LlmBudgetExceeded, match="of the last hour cost"):
        await ask(model, "third")
    assert len(world.stub.asked) == 2
    assert (await ask(model, "second")).cached
    assert world.noted.outcomes[-2:] == ["LLM_BUDGET_EXCEEDED", "CACHED"]


async def read(stream: AsyncGenerator[str, None], into: list[str] | None = None) -> list[str]:
    pieces = [] if into is None else into
    async for piece in stream:
        pieces += [piece]
    return pieces


async def test_a_stream_is_passed_on_and_paid(world: World) -> None:
    model = world.model()
    pieces = await read(model.stream([Message(role="user", text="abcd")], deadline_s=10))
    assert pieces == ["AB", "CD"]
    assert world.noted.spent == [(INPUT_TOKENS, OUTPUT_TOKENS, pytest.approx(COST))]
    assert world.noted.outcomes == ["OK"]


SENT = TokenUsage(input_tokens=estimated_tokens([PROMPT[0].text]))


@pytest.mark.parametrize(
    ("behaviour", "usage"),
    [
        (behave.answer(), TokenUsage(input_tokens=INPUT_TOKENS, output_tokens=OUTPUT_TOKENS)),
        (behave.truncated(), TokenUsage(input_tokens=INPUT_TOKENS, output_tokens=OUTPUT_TOKENS)),
        (behave.status(500), TokenUsage()),
        (behave.hang(), SENT),
    ],
    ids=lambda one: getattr(one, "kind", ""),
)
async def test_a_stream_says_what_it_cost(
    world: World, behaviour: behave.Behaviour, usage: TokenUsage
) -> None:
    world.stub.behave(behaviour)
    told: list[tuple[TokenUsage, float]] = []
    model = world.model()
    stream = model.stream(PROMPT, deadline_s=2.0, on_cost=lambda *cost: told.append(cost))
    with contextlib.suppress(LanguageModelError):
        await read(stream)
    assert told == [(usage, pytest.approx(PRICES.cost(usage)))]
    await asyncio.gather(*model._guard._tasks, return_exceptions=True)
    assert world.noted.spent == [(usage.input_tokens, usage.output_tokens, told[0][1])]


async def test_a_stream_that_is_not_begun_costs_nothing(world: World) -> None:
    told: list[tuple[TokenUsage, float]] = []
    model = world.model(money_max=0.0)
    with pytest.raises(LlmBudgetExceeded):
        await read(model.stream(PROMPT, deadline_s=2.0, on_cost=lambda *cost: told.append(cost)))
    assert told == [(TokenUsage(), 0.0)]


async def test_a_stream_ends_at_its_deadline_and_is_cancelled(world: World) -> None:
    world.stub.behave(behave.hang())
    pieces: list[str] = []
    with pytest.raises(LlmTimeout, match="300 ms"):
        await read(world.model().stream(PROMPT, deadline_s=0.3), pieces)
    assert len(pieces) == 1
    await asyncio.to_thread(world.stub.wait_cancelled)
    assert world.noted.outcomes == ["LLM_TIMEOUT"]


async def test_a_stream_of_the_deaf_ends_at_its_deadline(world: World) -> None:
    deaf = Deaf()
    with pytest.raises(LlmTimeout):
        await read(world.model(provider=deaf).stream(PROMPT, deadline_s=0.05))
    deaf.end.set()


async def test_a_stream_that_nobody_reads_on_is_cancelled(world: World) -> None:
    world.stub.behave(behave.hang())
    told: list[tuple[TokenUsage, float]] = []
    stream = world.model().stream(PROMPT, deadline_s=10, on_cost=lambda *cost: told.append(cost))
    async with aclosing(stream) as pieces:
        async for _ in pieces:
            break
    assert told == [(SENT, pytest.approx(PRICES.cost(SENT)))]
    await asyncio.to_thread(world.stub.wait_cancelled)
    assert world.noted.outcomes == ["CANCELLED"]


async def test_a_stream_is_begun_again_only_before_its_first_piece(world: World) -> None:
    world.stub.behave(behave.status(503, retry_delay_s=0.01), behave.answer())
    model = world.model()
    assert await read(model.stream([Message(role="user", text="abcd")], deadline_s=10))
    assert world.noted.retries == 1

    class Overrun(Deaf):
        async def stream(self, *_: Any, **__: Any) -> AsyncGenerator[str, None]:
            self.calls += 1
            yield "once"
            raise LlmOverloaded("too much", retry_delay_s=0.0)

    overrun = Overrun()
    pieces: list[str] = []
    with pytest.raises(LlmOverloaded):
        await read(world.model(provider=overrun).stream(PROMPT, deadline_s=10), pieces)
    assert pieces == ["once"]
    assert overrun.calls == 1


async def test_a_fault_of_ours_reaches_the_caller(world: World) -> None:
    class Wrong(Deaf):
        async def complete(self, *_: Any, **__: Any) -> Completion:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await ask(world.model(provider=Wrong()))
    assert world.noted.outcomes == ["FAILED"]


async def test_closing_cancels_what_is_under_way(world: World) -> None:
    world.stub.behave(behave.hang())
    model = world.model()
    task = asyncio.ensure_future(ask(model))
    await asyncio.to_thread(world.stub.wait_asked)
    await model.close()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(world.stub.wait_cancelled)
