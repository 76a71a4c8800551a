from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from altered_funnel import altered
from conftest import RunningServer
from shortlist_client import Client
from shortlist_exporters.cli import main
from shortlist_exporters.data import load_dataset
from shortlist_exporters.data.split import parse_split
from shortlist_exporters.evaluation.wording import setting
from shortlist_exporters.export import export_bundle
from shortlist_server.funnel.options import Nearest, Popular, SourceOptions
from shortlist_server.funnel.stages import SourceQuery
from shortlist_server.funnel.types import Found
from shortlist_server.generation import Generation

K = ("--k", "1", "5", "10", "--candidates", "20")
CUT = "temporal:2001-09-09"


@pytest.mark.parametrize("protocol", ["full", "popularity:9"])
def test_server_and_process_give_the_same_figures(
    evaluate: Any, server: RunningServer, protocol: str
) -> None:
    within = evaluate(*K, "--protocol", protocol)
    over = evaluate(*K, "--protocol", protocol, "--target", server.target)

    assert within["bundle"].pop("reached") == "in process"
    assert over["bundle"].pop("reached") == server.target
    assert within == over


def test_figures_are_of_the_lists_that_a_caller_gets(
    evaluate: Any, server: RunningServer, data: Path
) -> None:
    figures = evaluate(*K)

    train, test = parse_split(CUT).apply(load_dataset(data).interactions)
    wanted: dict[str, set[str]] = {}
    ratings = {}
    for row in test.to_pylist():
        wanted.setdefault(row["user_id"], set()).add(row["item_id"])
        ratings[row["user_id"], row["item_id"]] = row["rating"]
    shares, errors, retrieved, depth = [], [], [], 0
    with Client(server.target) as client:
        for user, items in wanted.items():
            answer = client.recommend(user=user, limit=10, candidate_count=20)
            shares.append(len(items & {item.id for item in answer.items}) / 4)
            found = client.retrieve(user=user, candidate_count=20, exact=True)
            retrieved.append(len(items & {item.id for item in found.items[:10]}))
            depth += len(items & {item.id for item in found.items})
            errors += [
                (item.outputs["rating"] - ratings[user, item.id], user, item.id)
                for item in client.rank(user=user, item_ids=list(items)).items
            ]
    assert figures["counts"]["test_pairs"] == 48
    assert figures["counts"]["dropped"]["seen"] == 12
    assert figures["metrics"]["recall_at_10"]["value"] == pytest.approx(np.mean(shares), abs=1e-6)
    assert figures["stages"]["exact"]["hit_at_10"]["value"] == pytest.approx(
        sum(retrieved) / 48, abs=1e-6
    )
    assert figures["stages"]["exact"]["hit_among_all"]["value"] == pytest.approx(
        depth / 48, abs=1e-6
    )
    # One of the five was seen before: no list can hold it, and it is not measured.
    seen = {(row["user_id"], row["item_id"]) for row in train.to_pylist()}
    squares = [error**2 for error, user, item in errors if (user, item) not in seen]
    assert figures["metrics"]["rmse"]["value"] == pytest.approx(np.mean(squares) ** 0.5, abs=1e-5)


def test_stages_bound_one_another(evaluate: Any) -> None:
    stages = evaluate(*K)["stages"]

    for k in (1, 5, 10):
        name = f"hit_at_{k}"
        assert stages["served"][name]["value"] <= stages["best_ranking"][name]["value"]
    assert stages["exact"] == stages["candidates"]  # so small a catalogue is scanned
    assert stages["best_ranking"]["hit_at_10"] == stages["candidates"]["hit_among_all"]  # 4 a user


def test_seen_items_may_be_in_lists_and_then_all_pairs_count(evaluate: Any) -> None:
    figures = evaluate(*K, "--include-seen")

    assert figures["counts"]["test_pairs"] == 60
    assert not figures["seen_excluded"]


def test_pairs_below_relevance_are_left_out(evaluate: Any) -> None:
    figures = evaluate(*K, "--relevant-from", "4")

    counts = figures["counts"]
    assert counts["test_pairs"] + counts["dropped"]["below_relevance"] == 48
    assert counts["test_pairs"] < 48


def test_every_pair_is_among_the_first_of_all_that_were_sampled(evaluate: Any) -> None:
    figures = evaluate("--protocol", "uniform:9", "--k", "1", "10")

    assert figures["metrics"]["hit_at_10"]["value"] == 1.0
    assert figures["metrics"]["hit_at_1"]["value"] < 1.0
    assert figures["stages"] == {}


def test_bundle_does_not_differ_from_itself(evaluate: Any, tiny_bundle: Path) -> None:
    figures = evaluate(*K, "--compare", tiny_bundle)

    differences = figures["comparison"]["differences"]
    assert differences["recall_at_10"] == {"value": 0, "low": 0, "high": 0, "p_value": 1}
    assert figures["comparison"]["metrics"] == figures["metrics"]


def test_baselines_stand_beside(evaluate: Any) -> None:
    figures = evaluate(*K, "--baselines", "popularity", "random")

    assert list(figures["baselines"]) == ["popularity", "random"]
    assert 0 <= figures["baselines"]["popularity"]["metrics"]["hit_at_10"]["value"] <= 1
    assert "hit_at_10" in figures["baselines"]["random"]["metrics"]


def test_baselines_without_names_are_all(evaluate: Any) -> None:
    figures = evaluate("--k", "5", "--protocol", "uniform:9", "--baselines")

    assert list(figures["baselines"]) == ["random", "popularity", "item-knn", "ease", "als"]
    assert figures["baselines"]["random"]["metrics"]["hit_at_5"]["low"] is not None


def test_what_has_seen_the_test_part_is_refused(evaluate: Any) -> None:
    message = evaluate(split="random:0.7:3")

    assert (
        "expected one that has not seen the test part (random:0.7:3), got one that was" in message
    )
    assert "train it with --split random:0.7:3 on the same --data" in message


def test_what_was_trained_on_other_data_is_refused(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "interactions.csv").write_text(
        "user_id,item_id,time\n" + "".join(f"other{n},film{n % 7},{n}\n" for n in range(40))
    )

    code = main(["evaluate", str(tiny_bundle), "--data", str(tmp_path), "--split", "random:0.8"])

    assert code == 1
    assert "got one whose users have seen 0% of its 32 interactions" in capsys.readouterr().err


def test_server_of_another_bundle_is_refused(
    evaluate: Any, tiny_bundle: Path, tmp_path: Path, server: RunningServer
) -> None:
    export_bundle(tiny_bundle.parent / "spec/export.json", tmp_path / "bundle", version="2")

    message = evaluate("--target", server.target, bundle=tmp_path / "bundle")

    assert f"--target {server.target}: expected a server of tiny 2, got one of tiny 1" in message


class BrokenSource:
    """A source that finds nothing but trouble; the others answer, and the answer is degraded."""

    waits = False
    filters = True

    def skip_reason(self, ask: SourceQuery) -> str:
        return ""

    def retrieve(self, ask: SourceQuery) -> Found:
        raise RuntimeError("out of order")


def test_degraded_answers_are_counted_and_told(
    evaluate: Any, tiny_bundle: Path, generation: Generation, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = (SourceOptions(settings=Nearest()), SourceOptions(settings=Popular()))
    kinds = {"popularity": BrokenSource()}
    running = RunningServer(tiny_bundle, altered(generation, kinds=kinds, sources=sources))
    try:
        figures = evaluate(*K, "--target", running.target)
    finally:
        running.stop()

    # Twelve users: what the index finds, what exact search finds, candidates, and lists.
    assert figures["counts"]["degraded_answers"] == 48
    assert any(line.startswith("degraded: 48 answers") for line in setting(figures))
    assert evaluate(*K)["counts"]["degraded_answers"] == 0


def test_server_that_is_not_there_is_named(evaluate: Any) -> None:
    assert "127.0.0.1:1: " in evaluate("--target", "127.0.0.1:1")


def test_test_part_may_be_a_file(evaluate: Any, tmp_path: Path) -> None:
    file = tmp_path / "later.csv"
    file.write_text("user_id,item_id,rating\nu1,i3,4\nu1,i3,5\nu2,nobody,2\nwho,i5,1\n")

    figures = evaluate(*K, "--test", file, "--include-seen", split=None)

    counts = figures["counts"]
    assert (counts["test_pairs"], counts["test_users"]) == (3, 3)
    assert (counts["unknown_users"], counts["unknown_pairs"]) == (1, 1)
    assert counts["dropped"]["repeated"] == 1
    assert figures["notes"] == ["whether the bundle was trained without later.csv is not checked"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--k", "0"], "--k: expected 1 to 500 each, got (0,)"),
        (["--k", "10", "--candidates", "5"], "--candidates: expected 10, the largest cutoff"),
        (["--ef", "0"], "--ef: expected 1 to 4096, got 0"),
        (["--draws", "-1"], "--draws: expected 0 to 100000, got -1"),
        (["--seed", "-1"], "--seed: expected 0 to 2**32 - 1, got -1"),
        (["--protocol", "some"], "protocol: expected full, uniform:N or popularity:N"),
        (["--protocol", "uniform:0"], "expected 1 to 4095 negatives, got 0"),
        (["--report", "/nowhere/at/all.html"], "--report /nowhere/at/all.html: cannot be written"),
    ],
)
def test_what_is_wrong_with_an_option_is_said(
    evaluate: Any, arguments: list[str], message: str
) -> None:
    assert message in evaluate(*arguments)


class Page(HTMLParser):
    """Collects what a page refers to, and whether its elements are closed in order."""

    EMPTY = ("meta", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: dict[str, list[str]] = {}
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value or "")
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_stands_alone_and_shows_the_figures(
    evaluate: Any, tiny_bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    compared = ("--baselines", "popularity", "--compare", tiny_bundle)

    figures = evaluate(*K, *compared, "--report", path)

    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    assert not page.open
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert not {"src", "href", "onload"} & set(page.attributes)
    assert page.tags.count("svg") == 4  # cutoffs, stages, differences, calibration
    assert "prefers-color-scheme: dark" in page.text
    assert f"{figures['metrics']['recall_at_10']['value']:.4f}" in page.text
    assert "linear" not in page.text
    assert "the same for all" in page.text  # what the baseline is


def test_terminal_shows_setting_figures_and_stages(
    tiny_bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", tiny_bundle, "--data", data, "--split", CUT, *K, "--draws", "20"]

    assert main([*map(str, words), "--compare", str(tiny_bundle), "--baselines", "popularity"]) == 0

    printed = capsys.readouterr().out
    assert "60 interactions to train on, 48 pairs of 12 users to test with" in printed
    assert "not measured: 12 seen" in printed
    for words_ in (
        "popularity",
        "recall@10",
        "a perfect ranking of these candidates",
        "against tiny",
    ):
        assert words_ in printed
