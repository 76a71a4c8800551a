"""Texts are embedded once, within the deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import llm_behaviours as behave
import numpy as np
import pytest
from llm_observer import Noted
from llm_providers import TESTED, make_embedder
from llm_stub import LlmStub
from shortlist_server.llm.answer_cache import MemoryCache
from shortlist_server.llm.cost import HourBudget, Prices
from shortlist_server.llm.guard import GuardOptions
from shortlist_server.llm.guarded_embedder import GuardedTextEmbedder
from shortlist_server.llm.language_model import LlmTimeout


@pytest.fixture
def noted() -> Noted:
    return Noted()


@pytest.fixture
async def embedder(stub: LlmStub, noted: Noted) -> AsyncIterator[GuardedTextEmbedder]:
    embedder = GuardedTextEmbedder(
        make_embedder(TESTED[0], stub),
        GuardOptions(prices=Prices(input_million=1e6)),
        cache=MemoryCache(bytes_max=1 << 20, ttl_s=60),
        budget=HourBudget(None),
        observer=noted,
    )
    yield embedder
    await embedder.close()


def embed(embedder: GuardedTextEmbedder, *texts: str, **more: Any) -> Any:
    return embedder.embed(texts, **{"kind": "item", "deadline_s": 10.0} | more)


async def test_only_new_texts_are_asked_for(
    embedder: GuardedTextEmbedder, stub: LlmStub, noted: Noted
) -> None:
    first = await embed(embedder, "one", "two")
    both = await embed(embedder, "three", "two", "one")
    assert [asked.texts for asked in stub.asked] == [["one", "two"], ["three"]]
    assert both[[2, 1]].tolist() == first.tolist()
    assert np.linalg.norm(both, axis=1) == pytest.approx(np.ones(3), abs=1e-6)
    again = await embed(embedder, "three", "one")
    assert again.tolist() == both[[0, 2]].tolist()
    assert len(stub.asked) == 2
    assert (noted.hits, noted.misses) == (4, 3)
    assert noted.outcomes == ["OK", "OK", "CACHED"]
    assert noted.spent == [(2, 0, 2.0), (2, 0, 2.0)]
    assert embedder.dimension == 16
    assert embedder.identity.endswith("/e-1/16")


async def test_queries_are_not_items(embedder: GuardedTextEmbedder, stub: LlmStub) -> None:
    await embed(embedder, "one")
    await embed(embedder, "one", kind="query")
    assert len(stub.asked) == 2


async def test_who_joins_gets_points_of_their_own(
    embedder: GuardedTextEmbedder, stub: LlmStub
) -> None:
    stub.behave(behave.slow(0.2))
    one, other = await asyncio.gather(embed(embedder, "one"), embed(embedder, "one"))
    assert len(stub.asked) == 1
    one[:] = 0
    assert np.linalg.norm(other) == pytest.approx(1.0, abs=1e-6)


async def test_it_ends_at_the_deadline_and_is_cancelled(
    embedder: GuardedTextEmbedder, stub: LlmStub, noted: Noted
) -> None:
    stub.behave(behave.hang())
    with pytest.raises(LlmTimeout, match="200 ms"):
        await embed(embedder, "one", deadline_s=0.2)
    await asyncio.to_thread(stub.wait_cancelled)
    assert noted.outcomes == ["LLM_TIMEOUT"]


async def test_no_texts_are_no_call(embedder: GuardedTextEmbedder, stub: LlmStub) -> None:
    assert (await embed(embedder)).shape == (0, 16)
    assert stub.asked == []
