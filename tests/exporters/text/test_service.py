"""Texts that a service embeds: as often as it lets, again where it was too busy, resumed."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import text_world
import tiny_world
from llm_behaviours import (
    Behaviour,
    answer,
    broken_body,
    hang,
    not_finite,
    reset,
    slow,
    status,
    wrong_schema,
)
from llm_providers import KEY
from llm_stub import LlmStub, embedding
from shortlist_exporters.cli import main
from shortlist_exporters.export import verify_bundle
from shortlist_exporters.text import embed, service
from shortlist_exporters.text.service import PatientEmbedder, ServiceSettings
from shortlist_server import serving
from shortlist_server.bundle.reader import open_bundle
from shortlist_server.config import ServerConfig
from shortlist_server.llm.language_model import (
    LanguageModelError,
    LlmInvalidOutput,
    LlmOverloaded,
    LlmTimeout,
    LlmUnavailable,
)
from shortlist_server.llm.provider import EmbedderOptions

PROVIDERS = ["gemini", "openai-compatible"]


@pytest.fixture
def stub() -> Iterator[LlmStub]:
    with LlmStub() as stub:
        yield stub


class Clock:
    """Time that passes where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(round(seconds, 6))

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=PROVIDERS)
def patient(request: pytest.FixtureRequest, stub: LlmStub) -> Iterator[Any]:
    """Makes an embedder, and closes it."""
    made: list[PatientEmbedder] = []

    def make(clock: Clock, requests_per_minute: float | None = None) -> PatientEmbedder:
        section = text_world.service_section(stub, request.param)
        settings = ServiceSettings(
            provider=section.pop("provider"),
            options=EmbedderOptions(**section),
            requests_per_minute=requests_per_minute,
        )
        made.append(PatientEmbedder(settings, sleep=clock.sleep, clock=clock))
        return made[-1]

    yield make
    for one in made:
        one.close()


def embedded(embedder: PatientEmbedder, *texts: str, deadline_s: float = 30.0) -> Any:
    return embedder.embed_now(texts, kind="item", deadline_s=deadline_s)


def test_it_waits_as_long_as_the_service_says(patient: Any, stub: LlmStub) -> None:
    clock = Clock()
    stub.behave(status(429, retry_delay_s=37), status(503), status(429), answer())
    points = embedded(patient(clock), "a", "b")
    expected = np.array([embedding("a", 16), embedding("b", 16)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(points, expected, atol=1e-6)
    assert clock.slept == [37, 2, 4]
    assert len(stub.asked) == 4


def test_it_asks_no_more_often_than_it_is_told(patient: Any, stub: LlmStub) -> None:
    clock = Clock()
    embedder = patient(clock, requests_per_minute=30)
    for _ in range(3):
        embedded(embedder, "a")
    assert clock.slept == [2, 2]
    clock.now += 60
    embedded(embedder, "a")
    assert clock.slept == [2, 2]


def test_it_gives_up_in_the_end(patient: Any, stub: LlmStub) -> None:
    clock = Clock()
    stub.behave(status(429))
    with pytest.raises(LlmOverloaded):
        embedded(patient(clock), "a")
    assert len(stub.asked) == service.TRIES_MAX
    assert max(clock.slept) == service.PAUSE_S_MAX


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (status(401), LlmUnavailable),
        (status(404), LlmUnavailable),
        (broken_body(), LlmInvalidOutput),
        (wrong_schema(), LlmInvalidOutput),
        (not_finite(), LlmInvalidOutput),
    ],
)
def test_what_is_set_up_wrongly_is_told_at_once(
    patient: Any, stub: LlmStub, behaviour: Behaviour, error: type[LanguageModelError]
) -> None:
    clock = Clock()
    stub.behave(behaviour)
    with pytest.raises(error):
        embedded(patient(clock), "a")
    assert clock.slept == []


@pytest.mark.parametrize("behaviour", [status(500), reset(), broken_body()])
def test_a_fault_of_one_that_has_answered_passes(
    patient: Any, stub: LlmStub, behaviour: Behaviour
) -> None:
    clock = Clock()
    stub.behave(answer(), behaviour, answer())
    embedder = patient(clock)
    embedded(embedder, "a")
    assert embedded(embedder, "b").shape == (1, 16)
    assert clock.slept == [1]


@pytest.mark.parametrize("behaviour", [hang(), slow(30)])
def test_a_request_that_takes_too_long_is_made_again(
    patient: Any, stub: LlmStub, behaviour: Behaviour
) -> None:
    clock = Clock()
    stub.behave(behaviour, answer())
    assert embedded(patient(clock), "a", deadline_s=0.5).shape == (1, 16)
    assert clock.slept == [1]
    stub.wait_cancelled(1)


def test_each_is_given_up(patient: Any, stub: LlmStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "TRIES_MAX", 2)
    stub.behave(hang())
    with pytest.raises(LlmTimeout):
        embedded(patient(Clock()), "a", deadline_s=0.2)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_command(
    tiny_bundle: Path,
    stub: LlmStub,
    tmp_path: Path,
    provider: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    stub.key = KEY
    section = text_world.service_section(stub, provider)
    plots = text_world.write_plots(tmp_path / "plots.csv")
    arguments = ["embed-text", str(tiny_bundle), "--text", "plot", "--texts", str(plots)]
    arguments += ["--embedder", provider, "--model", "e-1", "--dimension", "16"]
    arguments += ["--base-url", section["base_url"], "--key-env", "MY_KEY"]
    arguments += ["--item-prefix", "film: ", "--texts-per-request", "20"]
    arguments += ["--output", str(tmp_path / "out")]
    assert main(arguments) == 0, capsys.readouterr().err
    assert KEY not in capsys.readouterr().err
    bundle = open_bundle(tmp_path / "out")
    assert bundle.manifest.texts is not None
    gemini = provider == "gemini"
    assert bundle.manifest.texts.embedder.model_dump() == {
        "identity": f"{provider}/e-1/16",
        "folder": None,
        "service": {
            "api": provider,
            "model": "e-1",
            "query_task": "RETRIEVAL_QUERY" if gemini else "",
            "item_task": "RETRIEVAL_DOCUMENT" if gemini else "",
            "query_prefix": "",
            "item_prefix": "film: ",
        },
    }
    assert not any(name.startswith("texts/embedder") for name in bundle.manifest.files)
    assert [len(asked.texts) for asked in stub.asked] == [20, 20, 10]
    plot = next(iter(text_world.plots().values()))
    assert stub.asked[0].texts[0] == f"film: {plot}"
    assert bundle.texts is not None
    point = np.array(embedding(f"film: {plot}", 16))
    np.testing.assert_allclose(bundle.texts.embeddings[0], point / np.linalg.norm(point), atol=1e-6)
    verify_bundle(tmp_path / "out")
    assert main(["inspect", str(tmp_path / "out")]) == 0
    assert f"{provider}/e-1/16" in capsys.readouterr().out


def test_after_a_kill_only_what_is_missing_is_asked_for(
    tiny_bundle: Path, stub: LlmStub, tmp_path: Path
) -> None:
    arguments = ["embed-text", str(tiny_bundle), "--text", "title", "--output"]
    arguments += [str(tmp_path / "out"), "--embedder", "openai-compatible", "--model", "e-1"]
    arguments += ["--dimension", "16", "--base-url", stub.openai_url, "--texts-per-request", "15"]
    stub.behave(answer(), answer(), hang())
    child = subprocess.Popen([sys.executable, "-m", "shortlist_exporters.cli", *arguments])
    stub.wait_asked(3)
    child.kill()
    assert child.wait(30) == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    stub.asked.clear()
    stub.behave(answer())
    assert main(arguments) == 0
    assert [len(asked.texts) for asked in stub.asked] == [15, 15]
    texts = open_bundle(tmp_path / "out").texts
    assert texts is not None
    assert len(texts.rows) == tiny_world.ITEM_COUNT
    # Another prefix would make other points: nothing of the first run is taken for them.
    stub.behave(status(401))
    assert main([*arguments, "--replace", "--item-prefix", "film: "]) == 1
    assert [len(asked.texts) for asked in stub.asked] == [15, 15, 15]


def test_what_the_page_exports_its_configuration_serves(
    tiny_bundle: Path, stub: LlmStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[3] / "docs/text-search.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^shortlist-export (embed-text [^`]*--embedder gemini[^`]*)", page, re.M)
    (section,) = re.findall(r"^(\[text_embedder\]\n[^`]*)", page, re.M)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    stub.key = KEY
    places = {
        "build/bundle": tiny_bundle,
        "plots.csv": text_world.write_plots(tmp_path / "plots.csv"),
        "build/bundle-text": tmp_path / "out",
    }
    arguments = [str(places.get(word, word)) for word in shlex.split(shown.replace("\\\n", " "))]
    assert main([*arguments, "--base-url", stub.gemini_url]) == 0
    settings = tomllib.loads(section)
    settings["text_embedder"]["base_url"] = stub.gemini_url
    config = ServerConfig.model_validate({"bundle": tmp_path / "out", **settings})
    generations = serving.load(config, {"stable": tmp_path / "out"})
    texts = generations.stable.items.texts
    assert texts is not None
    assert texts.points is not None
    assert texts.points.of_query("a heist", 30).shape == (768,)
    generations.close()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--embedder", "gemini"], "--model: expected with --embedder gemini, got none"),
        (["--embedder", "gemini", "--model", "m"], "--dimension: expected with --embedder gemini"),
        (["--embedder", "gemini", "--model", "m", "--dimension", "0"], "a number above 0, got 0"),
        (
            ["--embedder", "folder", "--model", "m"],
            "--model: expected with --embedder gemini or gemini-legacy or openai-compatible, got",
        ),
        (
            ["--embedder", "gemini", "--model", "m", "--dimension", "8", "--key-env", "NO_SUCH"],
            "--key_env: environment variable NO_SUCH",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(
    tiny_bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    problem: str,
) -> None:
    command = ["embed-text", str(tiny_bundle), "--text", "title", "--output", str(tmp_path / "out")]
    assert main([*command, *arguments]) == 1
    assert problem in capsys.readouterr().err


def test_a_service_that_refuses_leaves_what_was_embedded(
    tiny_bundle: Path, stub: LlmStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "TRIES_MAX", 1)
    options = EmbedderOptions(model="m", dimension=16, base_url=stub.openai_url, texts_max=20)
    settings = ServiceSettings(provider="openai-compatible", options=options)
    stub.behave(answer(), status(500))
    with pytest.raises(LlmUnavailable):
        embed.embed_texts(tiny_bundle, tmp_path / "out", attributes=["title"], embedder=settings)
    assert not (tmp_path / "out").exists()
    assert len(list((tmp_path / ".out.embeddings").glob("*.npy"))) == 1
