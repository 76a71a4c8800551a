"""Items that were folded into a new index are found by the texts that they have now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_embedder
from changing_world import Item, ListLog
from shortlist.v1 import types_pb2
from shortlist_server.catalog.compaction import write_compacted
from shortlist_server.errors import BundleError
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.options import Options
from shortlist_server.funnel.types import Nobody, Query
from shortlist_server.generation import Generation, load_generation
from shortlist_server.live import LiveGeneration
from tiny_world import DIMENSION, ITEM_COUNT

TEXTS = ["a heist in a dream", "the robot of the moon", *tiny_embedder.WORDS[:6]]


def following(generation: Generation, log: ListLog) -> LiveGeneration:
    return LiveGeneration(generation, types_pb2.BundleId(), log, filter_cache_bytes=1 << 20)


def item(plot: str | None) -> Item:
    attributes: dict[str, Any] = {"title": "New"} if plot is None else {"plot": plot}
    return Item(attributes, np.full(DIMENSION, 0.5, np.float32))


def by_text(live: LiveGeneration) -> dict[str, dict[str, float]]:
    """Return the score of each item by each text."""
    at = live.snapshot
    found = {}
    for text in TEXTS:
        answer = at.funnel.recommend(
            Query(subject=Nobody(), text=text),
            Options(limit=100, candidate_count=100),
            Budget(60.0),
        )
        rows, scores = answer.items.rows.tolist(), answer.items.scores.tolist()
        found[text] = {
            at.catalog.item_id(row): pytest.approx(score, abs=1e-5)
            for row, score in zip(rows, scores, strict=True)
        }
    return found


def test_texts_are_folded_in_as_they_are(text_bundle: Path, tmp_path: Path) -> None:
    generation = load_generation(text_bundle)
    log = ListLog(generation.bundle.sha256)
    plain, live = following(generation, log), following(generation, log)
    steps: list[dict[str, Item | None]] = [
        {"new": item(TEXTS[0]), "i1": item(TEXTS[1]), "i2": None, "i3": item(None)},
        {"new": item(TEXTS[1]), "i2": item(TEXTS[0]), "i4": None, "newer": item(TEXTS[2])},
        {"new": None, "i3": item(TEXTS[0]), "i4": item(TEXTS[3]), "i5": item("")},
    ]
    for number, changes in enumerate(steps):
        log.write(changes)
        for one in (plain, live):
            one.refresh()
        folder = tmp_path / str(number)
        write_compacted(live.generation.bundle, live.items, "a store", folder)
        live = following(load_generation(folder, compacted=True), log)
        assert live.items.untouched
        found = by_text(live)
        assert found == by_text(plain)
        present = {
            item_id for item_id, one in changes.items() if one and one.attributes.get("plot")
        }
        assert present <= set(found[TEXTS[0]])


def test_without_a_text_that_is_left_nothing_is_folded(text_bundle: Path, tmp_path: Path) -> None:
    generation = load_generation(text_bundle)
    log = ListLog(generation.bundle.sha256)
    live = following(generation, log)
    log.write({"new": item(None), **{f"i{row}": None for row in range(ITEM_COUNT)}})
    live.refresh()
    with pytest.raises(BundleError, match="texts: expected an item that has one"):
        write_compacted(generation.bundle, live.items, "a store", tmp_path / "out")
    assert not (tmp_path / "out").exists()
