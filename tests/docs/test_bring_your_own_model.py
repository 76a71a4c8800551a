"""docs/bring-your-own-model.md, run as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.options import Options
from shortlist_server.funnel.types import Query, User
from shortlist_server.generation import load_generation

PAGE = Path(__file__).parents[2] / "docs/bring-your-own-model.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.export
def test_page_makes_a_bundle_that_recommends(tmp_path: Path) -> None:
    (script,), (spec,), (console,) = blocks("python"), blocks("toml"), blocks("console")
    (tmp_path / "your_training.py").write_text(script)
    (tmp_path / "export.toml").write_text(spec)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    commands = [line.removeprefix("$ ") for line in console.splitlines() if line.startswith("$ ")]
    assert len(commands) == 3
    for command in ["python your_training.py", *commands]:
        result = subprocess.run(
            command,
            shell=True,
            cwd=tmp_path,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    assert "golden query_tower.embedding" in result.stdout
    generation = load_generation(tmp_path / "bundle")
    assert generation.bundle.manifest.golden is not None
    assert generation.bundle.manifest.golden.origin == "onnxruntime and tensorflow"
    by_device = [
        generation.funnel.recommend(
            Query(subject=User(id="user-7"), context={"device": device}),
            Options(limit=5),
            Budget(10),
        )
        for device in (0, 0, 2)
    ]
    first, again, other = (answer.items.rows.tolist() for answer in by_device)
    assert len(first) == 5
    assert first == again
    assert first != other
    answer = by_device[0]
    prices = [5.5 + row % 40 for row in answer.items.rows]
    assert answer.items.retrieval_scores is not None
    for score, price, retrieved in zip(
        answer.items.scores, prices, answer.items.retrieval_scores, strict=True
    ):
        assert score == pytest.approx(retrieved - 0.5 * price, abs=1e-4)
