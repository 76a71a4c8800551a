"""A data set whose first part the tiny bundle was made of, and whose last part it has not seen."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shortlist_exporters.cli import main

CUT = "temporal:2001-09-09"
"""Before it is what the bundle was made of."""
LATER = 1_000_000_000

Evaluate = Callable[..., Any]


@pytest.fixture(scope="session")
def data(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interactions of the tiny world, and later ones with ratings: each user's of four items that
    he has not seen, and one of an item that he has.
    """
    spec = tiny_bundle.parent / "spec"
    rows = list(csv.DictReader((spec / "interactions.csv").read_text().splitlines()))
    seen: dict[str, list[str]] = {}
    for row in rows:
        seen.setdefault(row["user_id"], []).append(row["item_id"])
    draw = np.random.default_rng(11)
    lines = [f"{row['user_id']},{row['item_id']},3,{row['time']}" for row in rows]
    for user, items in seen.items():
        others = [f"i{item}" for item in range(60) if f"i{item}" not in items]
        new = draw.choice(others, 4, replace=False)
        lines += [f"{user},{item},{draw.integers(1, 6)},{LATER}" for item in [*new, items[0]]]
    folder = tmp_path_factory.mktemp("evaluated") / "tiny-world"
    folder.mkdir()
    (folder / "interactions.csv").write_text("\n".join(["user_id,item_id,rating,time", *lines, ""]))
    (folder / "items.csv").write_text((spec / "items.csv").read_text())
    return folder


@pytest.fixture
def evaluate(tiny_bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> Evaluate:
    """Runs `evaluate --json` on the tiny bundle; returns the document, or what it refuses with."""

    def run(*arguments: Any, split: str | None = CUT, bundle: Path = tiny_bundle) -> Any:
        part = () if split is None else ("--data", data, "--split", split)
        words = ["evaluate", bundle, *part, "--json", "--draws", "50", *arguments]
        code = main([str(word) for word in words])
        printed = capsys.readouterr()
        return printed.err if code else json.loads(printed.out)

    return run
