"""What a guarded call of a language model costs: time, overrun of its deadline, money.

    python benchmarks/llm_call.py        (make bench-llm)

The SDKs ask the tests' stub, in processes of its own, which answers at once or hangs: what is
measured is ours and the SDK's, and no model's. The question is a re-ranking of 20 films with a
history of 20, in tokens by its length. Writes benchmarks/results/llm_call.json.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import machine
from shortlist_server.llm.answer_cache import AnswerCache, MemoryCache
from shortlist_server.llm.breaker import BreakerOptions
from shortlist_server.llm.cost import HourBudget, Prices, estimated_tokens
from shortlist_server.llm.credentials import ApiKey
from shortlist_server.llm.guard import GuardOptions
from shortlist_server.llm.guarded_model import GuardedLanguageModel
from shortlist_server.llm.language_model import LanguageModelError, Message
from shortlist_server.llm.make import ProviderName, make_provider
from shortlist_server.llm.own_loop import OwnLoopProvider
from shortlist_server.llm.provider import ModelOptions
from shortlist_server.llm.redis_cache import RedisCache

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks/results/llm_call.json"
TESTS = str(ROOT / "tests")
PROVIDERS: tuple[ProviderName, ...] = ("gemini", "openai-compatible")
CANDIDATES = 20
OUTPUT_TOKENS = 4 * CANDIDATES
"""A handle, its quotes and a comma are about four."""
BEAT_S = 0.001
SCHEMA = {
    "type": "object",
    "properties": {"order": {"type": "array", "items": {"type": "string"}}},
    "required": ["order"],
    "additionalProperties": False,
}
STUB = """
import sys
sys.path.insert(0, sys.argv[1])
import llm_behaviours, llm_stub
llm_stub.INPUT_TOKENS, llm_stub.OUTPUT_TOKENS = int(sys.argv[3]), int(sys.argv[4])
with llm_stub.LlmStub() as stub:
    stub.rule = llm_stub.reverse_handles("order")
    stub.behave(getattr(llm_behaviours, sys.argv[2])())
    print(stub.gemini_url, stub.openai_url, flush=True)
    sys.stdin.read()
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--deadline-ms", type=float, default=50.0)
    parser.add_argument("--price-input", type=float, default=0.30, help="of a million tokens")
    parser.add_argument("--price-output", type=float, default=2.50, help="of a million tokens")
    arguments = parser.parse_args()
    report = {
        "machine": machine(),
        "arguments": vars(arguments),
        "tokens": {"input": question_tokens(), "output": OUTPUT_TOKENS},
        "providers": {
            provider: asyncio.run(measure(provider, arguments)) for provider in PROVIDERS
        },
    }
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    for line in table(report):
        print(line)


async def measure(provider: ProviderName, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what calls of a provider take, overrun and cost."""
    prices = Prices(input_million=arguments.price_input, output_million=arguments.price_output)
    calls = arguments.calls
    with stub("answer") as urls:
        bare = make_provider(provider, options(provider, urls))
        found: dict[str, Any] = {
            "sdk_alone_ms": await times(
                lambda number: bare.complete(question(number), SCHEMA, deadline_s=10), calls
            )
        }
        await bare.close()
        # As the server does once its SDKs are loaded.
        gc.collect()
        gc.freeze()
        memory = MemoryCache(bytes_max=1 << 26, ttl_s=3_600)
        found["miss_ms"], found["hit_ms"] = await misses_and_hits(provider, urls, memory, calls)
        with redis() as (url, password):
            shared = RedisCache(url, ttl_s=3_600, timeout_s=1, password=ApiKey(password))
            _, found["hit_redis_ms"] = await misses_and_hits(provider, urls, shared, calls)
        found["loop_lag_16_ms"] = await lags(provider, urls, at_a_time=16)
        found["money"] = await money(provider, urls, prices)
    with stub("hang") as urls:
        deadline_s = arguments.deadline_ms / 1e3
        found["overrun_ms"] = await overruns(provider, urls, deadline_s, at_a_time=1)
        found["overrun_16_ms"] = await overruns(provider, urls, deadline_s, at_a_time=16)
    return found


async def misses_and_hits(
    provider: ProviderName, urls: Sequence[str], cache: AnswerCache, calls: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the times of questions that are new, and of the same when they are not."""
    model = guarded(provider, urls, cache)

    async def ask(number: int) -> Any:
        return await model.complete(question(number), SCHEMA, deadline_s=10)

    missed = await times(ask, calls)
    hit = await times(ask, calls)
    assert (await ask(0)).cached
    await model.close()
    return missed, hit


async def money(
    provider: ProviderName, urls: Sequence[str], prices: Prices
) -> dict[str, dict[str, float]]:
    """Return what 1,000 requests cost, all new and with users who come back (Zipf)."""
    weights = [1 / (rank + 1) for rank in range(1_000)]
    drawn = random.Random(7).choices(range(1_000), weights, k=1_000)
    found = {}
    for name, numbers in (("all_new", list(range(100))), ("zipf", drawn)):
        budget = HourBudget(None)
        cache = MemoryCache(bytes_max=1 << 26, ttl_s=3_600)
        model = guarded(provider, urls, cache, budget, prices)
        answers = [
            await model.complete(question(number), SCHEMA, deadline_s=10) for number in numbers
        ]
        await model.close()
        found[name] = {
            "per_1000": budget.spent * 1_000 / len(numbers),
            "hit_share": sum(answer.cached for answer in answers) / len(numbers),
        }
    return found


async def overruns(
    provider: ProviderName, urls: Sequence[str], deadline_s: float, *, at_a_time: int
) -> dict[str, float]:
    """Return by how much calls outlive their deadline, of a service that does not answer."""
    model = guarded(provider, urls, MemoryCache(bytes_max=0, ttl_s=1))
    over: list[float] = []

    async def ask(number: int) -> None:
        began = time.perf_counter()
        try:
            await model.complete(question(number), SCHEMA, deadline_s=deadline_s)
        except LanguageModelError:
            over.append(time.perf_counter() - began - deadline_s)

    # The first call of an SDK loads parts of it; what comes after it is measured.
    await ask(-1)
    over.clear()
    for start in range(0, 160, at_a_time):
        await asyncio.gather(*[ask(start + one) for one in range(at_a_time)])
    await model.close()
    assert len(over) == 160
    return summary(over)


async def lags(provider: ProviderName, urls: Sequence[str], *, at_a_time: int) -> dict[str, float]:
    """Return by how much the event loop is late for what else it does, beside bursts of calls."""
    model = guarded(provider, urls, MemoryCache(bytes_max=0, ttl_s=1))
    late: list[float] = []
    await model.complete(question(-1), SCHEMA, deadline_s=10)

    async def beat() -> None:
        while True:
            due = time.perf_counter() + BEAT_S
            await asyncio.sleep(BEAT_S)
            late.append(time.perf_counter() - due)

    beating = asyncio.ensure_future(beat())
    for start in range(0, 16 * at_a_time, at_a_time):
        asked = [
            model.complete(question(start + one), SCHEMA, deadline_s=10) for one in range(at_a_time)
        ]
        # The stub may refuse some of so many connections at once.
        await asyncio.gather(*asked, return_exceptions=True)
        await asyncio.sleep(20 * BEAT_S)
    beating.cancel()
    await model.close()
    return summary(late)


async def times(ask: Callable[[int], Awaitable[Any]], calls: int) -> dict[str, float]:
    """Return how long calls take, one after the other, after ten that do not count."""
    taken = []
    for number in range(-10, calls):
        began = time.perf_counter()
        await ask(number)
        if number >= 0:
            taken.append(time.perf_counter() - began)
    return summary(taken)


def summary(seconds: list[float]) -> dict[str, float]:
    """Return median, p99 and most, in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {
        "p50": round(cuts[49] * 1e3, 3),
        "p99": round(cuts[98] * 1e3, 3),
        "max": round(max(seconds) * 1e3, 3),
    }


def question(number: int) -> list[Message]:
    """Return a re-ranking as it would be asked; another for each number."""
    data = {
        "candidates": [
            {"handle": f"c{one}", "title": f"The Title of Film {one} ({1960 + one})"}
            for one in range(CANDIDATES)
        ],
        "history": [f"Another Film {one * number} (rated {one % 5 + 1})" for one in range(20)],
    }
    return [
        Message(role="system", text="Order the candidates by what this user would watch next."),
        Message(role="user", text=json.dumps(data)),
    ]


def question_tokens() -> int:
    return estimated_tokens(one.text for one in question(7))


def options(provider: ProviderName, urls: Sequence[str]) -> ModelOptions:
    return ModelOptions(model="m", base_url=urls[PROVIDERS.index(provider)])


def guarded(
    provider: ProviderName,
    urls: Sequence[str],
    cache: AnswerCache,
    budget: HourBudget | None = None,
    prices: Prices | None = None,
) -> GuardedLanguageModel:
    """Return a guarded model whose breaker stays closed."""
    return GuardedLanguageModel(
        OwnLoopProvider(lambda: make_provider(provider, options(provider, urls))),
        GuardOptions(
            concurrency_max=16,
            breaker=BreakerOptions(calls=1_000, calls_min=1_000),
            prices=prices or Prices(),
        ),
        cache=cache,
        budget=budget or HourBudget(None),
    )


@contextmanager
def stub(behaviour: str) -> Iterator[list[str]]:
    """Run the stub in a process of its own; yield its URLs, Gemini's and OpenAI's."""
    tokens = [str(question_tokens()), str(OUTPUT_TOKENS)]
    with subprocess.Popen(
        [sys.executable, "-c", STUB, TESTS, behaviour, *tokens],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()
        finally:
            process.stdin.close()


@contextmanager
def redis() -> Iterator[tuple[str, str]]:
    """Run the tests' Redis; yield its URL and its password."""
    sys.path.insert(0, TESTS)
    import redis_server  # type: ignore[import-not-found]  # of the tests, which mypy does not see

    server = redis_server.RedisServer()
    try:
        yield server.url, redis_server.PASSWORD
    finally:
        server.remove()


def table(report: dict[str, Any]) -> list[str]:
    """Return the result as Markdown."""
    rows = {
        "SDK alone, ms": "sdk_alone_ms",
        "guarded, a new question, ms": "miss_ms",
        "from the cache in memory, ms": "hit_ms",
        "from the cache in Redis, ms": "hit_redis_ms",
        "deadline overrun, ms": "overrun_ms",
        "the same, 16 at a time, ms": "overrun_16_ms",
        "lag of the event loop beside bursts of 16, ms": "loop_lag_16_ms",
    }
    providers = report["providers"]
    lines = [
        f"| p50 / p99 / most | {' | '.join(f'`{name}`' for name in providers)} |",
        f"| --- |{' --- |' * len(providers)}",
    ]
    for name, field in rows.items():
        cells = [
            " / ".join(f"{one[field][part]:.2f}" for part in one[field])
            for one in providers.values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for name, field in (("all new", "all_new"), ("users come back (Zipf)", "zipf")):
        cells = [
            "{per_1000:.3f} ({hit_share:.0%} hits)".format(**one["money"][field])
            for one in providers.values()
        ]
        lines.append(f"| money per 1,000 requests, {name} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
