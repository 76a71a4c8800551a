"""What the browser tests share: one browser, and one server of the films of `docs/`."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import RunningServer
from conversing import served, understand, word
from llm_stub import Asked, LlmStub
from shortlist_exporters.export import export_bundle
from shortlist_server.generation import Generation, load_generation
from shortlist_server.labels import LabeledGenerations
from shortlist_server.rpc.http.playground import FOLDER
from watched_page import AXE, ROOT, WIDE, Opener, OpenPage, Watched

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE_MS = 20_000
"""Longest that anything on the page is waited for."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, as Debian has it."""
    if not (FOLDER / "index.html").is_file() or not AXE.is_file():
        pytest.skip("the page is not built: make playground")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        # As root there is no sandbox; what is opened is our own page.
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Generation]]:
    folder = tmp_path_factory.mktemp("films")
    spec = importlib.util.spec_from_file_location("films", ROOT / "docs/examples/films.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    export_bundle(module.write_spec(folder / "spec"), folder / "bundle", version="1")
    generation = load_generation(folder / "bundle")
    yield folder / "bundle", generation
    generation.close()


@pytest.fixture(scope="session")
def stub() -> Iterator[LlmStub]:
    with LlmStub() as running:
        running.rule, running.talk = order_or_understand, word
        yield running


def order_or_understand(asked: Asked) -> Any:
    """The last candidate first, each with a reason; or what a turn asks for."""
    if "candidates" not in asked.data:
        return understand(asked)
    candidates = reversed(asked.data["candidates"])
    return {
        "order": [
            {"handle": one["handle"], "reason": f"{one['title']}, since it is late."}
            for one in candidates
        ]
    }


@pytest.fixture(scope="session")
def serving(films: tuple[Path, Generation], stub: LlmStub) -> Iterator[RunningServer]:
    """The server of all tests: stable, canary, and the stub for a language model."""
    bundle, generation = films
    running = RunningServer(
        bundle,
        LabeledGenerations(stable=generation, canary=generation),
        http_listen="127.0.0.1:0",
        playground=True,
        default_timeout_ms=20_000,
        llm=served("gemini", stub),
    )
    yield running
    running.stop()


@pytest.fixture(scope="session")
def make_opener(browser: Any, serving: RunningServer) -> Opener:
    @contextmanager
    def make() -> Iterator[OpenPage]:
        opened: list[Watched] = []

        def open_(address: str = "", *, http: str = "", **options: Any) -> Watched:
            options = {"viewport": WIDE, "reduced_motion": "reduce", **options}
            context = browser.new_context(**options)
            context.set_default_timeout(PATIENCE_MS)
            origin = f"http://{http or serving.http}"
            context.grant_permissions(["clipboard-read", "clipboard-write"], origin=origin)
            watched = Watched(context.new_page(), origin)
            watched.watch()
            opened.append(watched)
            watched.open(address)
            return watched

        yield open_
        for each in opened:
            each.page.context.close()
        assert [each.console for each in opened] == [[] for _ in opened]
        assert [each.elsewhere for each in opened] == [[] for _ in opened]

    return make


@pytest.fixture
def open_page(make_opener: Opener) -> Iterator[OpenPage]:
    """Open the playground in a browser that knows nothing; ends with what it must not have done."""
    with make_opener() as opener:
        yield opener
