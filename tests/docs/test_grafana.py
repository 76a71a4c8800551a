"""docs/grafana/shortlist.json: what it asks for is what a server shows."""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from itertools import combinations
from pathlib import Path
from typing import Any

import grpc
import pytest
from serving_process import ServingProcess
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.conversation_pb2 import ConverseRequest
from shortlist.v1.conversation_pb2_grpc import ConversationServiceStub
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub

DOCS = Path(__file__).parents[2] / "docs"
DASHBOARD: dict[str, Any] = json.loads((DOCS / "grafana/shortlist.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
SERIES = re.compile(r"((?:shortlist|process)_\w+)\{([^}]*)\}")
VARIABLE = {"type": "prometheus", "uid": "${datasource}"}
# These a supervisor shows, whose page is tested with the workers.
OF_THE_SUPERVISOR = {
    "shortlist_workers": "gauge",
    "shortlist_worker_restarts_total": "counter",
    "shortlist_generation": "gauge",
}
GIVEN_BY_PROMETHEUS = {"job", "instance"}


def expressions() -> list[str]:
    return [target["expr"] for panel in PANELS for target in panel.get("targets", ())]


@pytest.fixture(scope="module")
def exposed(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The metrics of a server after some calls: type by name."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = {
        "--metrics-listen": address,
        "--recall-share": "1",
        "--exact-items-max": "1",
        "--request-log": str(tmp_path_factory.mktemp("log")),
        "--catalog-store": str(tmp_path_factory.mktemp("catalog") / "catalog.sqlite"),
        "--state-dir": str(tmp_path_factory.mktemp("state")),
        "--otel-endpoint": "http://127.0.0.1:9",
    }
    arguments = [part for pair in settings.items() for part in pair]
    with (
        ServingProcess(tiny_bundle, *arguments) as serving,
        grpc.insecure_channel(serving.target) as channel,
    ):
        stub = RecommendationServiceStub(channel)
        for user in ("u1", "u2", "nobody"):
            query = types.Query(user=types.UserQuery(id=user))
            stub.Recommend(pb.RecommendRequest(query=query, limit=5), timeout=10)
        with pytest.raises(grpc.RpcError):
            stub.Recommend(pb.RecommendRequest(), timeout=10)
        request = ConverseRequest(text="Films", keep=True)
        list(ConversationServiceStub(channel).Converse(request, timeout=10))
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as response:
            text = response.read().decode()
    types_ = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    buckets = {f"{name}_bucket": kind for name, kind in types_.items() if kind == "histogram"}
    return types_ | buckets | OF_THE_SUPERVISOR


def test_every_metric_that_it_asks_for_is_shown_by_a_server(exposed: dict[str, str]) -> None:
    asked = {name for text in expressions() for name, _ in SERIES.findall(text)}
    assert len(asked) > 15
    assert asked <= set(exposed), asked - set(exposed)
    # Each name is one that the pattern saw, with a selection of servers.
    for text in expressions():
        assert len(re.findall(r"\b(?:shortlist|process)_\w+", text)) == len(SERIES.findall(text))


def test_it_shows_every_metric_of_ours(exposed: dict[str, str]) -> None:
    asked = " ".join(expressions())
    missing = [
        name
        for name in exposed
        if name.startswith("shortlist_") and f"{name}{{" not in asked and "_bucket{" not in name
    ]
    histograms = {name for name in missing if exposed[name] == "histogram"}
    assert all(f"{name}_bucket{{" in asked for name in histograms)
    assert set(missing) == histograms


def test_metrics_have_the_labels_that_it_asks_for() -> None:
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(shortlist_\w+)` \| \w+ \| ([^|]*) \|", page, re.MULTILINE)
    labels = {name: set(re.findall(r"`(\w+)`", cell)) for name, cell in rows}
    labels["shortlist_recall_queries_total"] = labels["shortlist_recall"]
    for text in expressions():
        grouped = {
            label for group in re.findall(r"by \(([^)]*)\)", text) for label in group.split(", ")
        }
        for name, selection in SERIES.findall(text):
            assert 'job=~"$job", instance=~"$instance"' in selection, text
            asked = grouped - {"le"} | set(re.findall(r"(\w+)(?:=|!=)", selection))
            known = labels.get(name.removesuffix("_bucket"), set())
            assert asked - GIVEN_BY_PROMETHEUS <= known, text


def test_counters_are_shown_as_rates_and_brackets_are_closed(exposed: dict[str, str]) -> None:
    for text in expressions():
        assert text.count("(") == text.count(")")
        for found in SERIES.finditer(text):
            counts = exposed[found[1]] in ("counter", "histogram")
            assert text[found.end() :].startswith("[$__rate_interval])") == counts, text
            assert text[: found.start()].endswith("rate(") == counts, text


def test_it_is_a_dashboard_that_can_be_imported() -> None:
    assert re.fullmatch(r"[\w-]{1,40}", DASHBOARD["uid"])
    assert DASHBOARD["title"]
    assert DASHBOARD["schemaVersion"] >= 36
    assert "id" not in DASHBOARD  # it would overwrite another one
    assert "__inputs" not in DASHBOARD
    source, *variables = DASHBOARD["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    assert {variable["name"] for variable in variables} == {"job", "instance"}
    assert all(variable["datasource"] == VARIABLE for variable in variables)
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert {panel["type"] for panel in PANELS} == {"row", "timeseries", "table"}
    for panel in PANELS:
        assert panel["title"]
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == VARIABLE
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert [target["datasource"] for target in panel["targets"]] == [VARIABLE] * len(
            panel["targets"]
        )


def test_no_panel_lies_on_another() -> None:
    for one, other in combinations([panel["gridPos"] for panel in PANELS], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)
