from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shortlist_exporters.evaluation.card import CARD, FIGURES
from shortlist_server.bundle.reader import open_bundle
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.options import Options
from shortlist_server.funnel.types import Query, User
from shortlist_server.generation import Generation, load_generation

K = ("--k", "1", "5", "--candidates", "20")


def test_bundle_with_a_card_serves_as_before_and_tells_how_good_it_is(
    evaluate: Any, tiny_bundle: Path, generation: Generation, tmp_path: Path
) -> None:
    out = tmp_path / "with-card"

    figures = evaluate(*K, "--baselines", "popularity", "--card", out)

    carded = load_generation(out)
    assert carded.bundle.manifest.version == "1-card"
    assert {CARD, FIGURES} == set(carded.bundle.manifest.files) - set(
        generation.bundle.manifest.files
    )
    assert json.loads((out / FIGURES).read_text(encoding="utf-8")) == figures
    card = (out / CARD).read_text(encoding="utf-8")
    assert card.startswith("# tiny 1\n")
    assert "Trained on tiny-world (simulated interactions); 60 items" in card
    assert "- query tower: from `user.age`, `user.id` to `embedding`" in card
    row = next(line for line in card.splitlines() if line.startswith("| hit@5 |"))
    assert f"| {figures['metrics']['hit_at_5']['value']:.4f} |" in row
    popular = figures["baselines"]["popularity"]["metrics"]["hit_at_5"]["value"]
    assert f"| {popular:.4f} |" in row
    assert "| a perfect ranking of these candidates |" in card
    query, options = Query(subject=User(id="u3")), Options(limit=10)
    before, after = (
        one.funnel.recommend(query, options, Budget(10)).items for one in (generation, carded)
    )
    assert before.rows.tolist() == after.rows.tolist()
    carded.close()


def test_card_gives_way_to_a_later_one(evaluate: Any, tmp_path: Path) -> None:
    out = tmp_path / "with-card"
    evaluate(*K, "--card", out)

    assert "already exists" in evaluate(*K, "--card", out)
    evaluate("--k", "3", "--card", out, "--replace")

    assert open_bundle(out).manifest.version == "1-card"
    assert "| hit@3 |" in (out / CARD).read_text(encoding="utf-8")


def test_bundle_with_a_card_may_be_evaluated_into_its_own_place(
    evaluate: Any, tmp_path: Path
) -> None:
    out = tmp_path / "with-card"
    evaluate(*K, "--card", out)

    evaluate("--protocol", "uniform:9", "--k", "1", "--card", out, "--replace", bundle=out)

    assert open_bundle(out).manifest.version == "1-card"
    assert "ranked among sampled items" in (out / CARD).read_text(encoding="utf-8")
