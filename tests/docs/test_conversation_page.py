"""docs/conversation.md: its transcript is what `shortlist chat` prints, with a language model
that answers by the rules of `tests/conversing.py` behind the real SDK.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import RunningServer
from conversing import served, understand, word
from llm_stub import LlmStub
from shortlist_client import Client
from shortlist_client.cli import main
from shortlist_exporters.export import export_bundle
from shortlist_server.config_conversation import ConversationConfig
from shortlist_server.generation import load_generation
from shortlist_server.llm.prompt import packaged

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "conversation.md").read_text(encoding="utf-8")
TRANSCRIPT = re.compile(r"^```console\n\$ shortlist ((?:.*\\\n)*.*)\n([\s\S]*?)^```", re.M)
EXAMPLE = re.compile(r"^```python\n([\s\S]*?)^```\n\n```text\n([\s\S]*?)^```", re.M)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of the films, with the stub for a language model."""
    folder = tmp_path_factory.mktemp("films")
    spec = importlib.util.spec_from_file_location("films", DOCS / "examples/films.py")
    assert spec is not None
    assert spec.loader is not None
    films = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(films)
    export_bundle(films.write_spec(folder / "spec"), folder / "bundle", version="1")
    generation = load_generation(folder / "bundle")
    with LlmStub() as stub:
        stub.rule, stub.talk = understand, word
        server = RunningServer(folder / "bundle", generation, llm=served("gemini", stub))
        yield server.target
        server.stop()
    generation.close()


def test_the_transcript_is_what_is_printed(
    target: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = TRANSCRIPT.search(PAGE)
    assert found
    command, expected = found.groups()
    monkeypatch.setenv("SHORTLIST_TARGET", target)
    assert main(shlex.split(command.replace("\\\n", " "))) == 0
    assert capsys.readouterr().out == expected
    # Six turns: a mood, a genre, "not that one", "older", "why?", a swap; a model in each.
    assert expected.count("\n> ") + 1 == 6
    assert "without a language model" not in expected


def test_the_example_prints_what_the_page_says(
    target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = EXAMPLE.search(PAGE)
    assert found
    with Client(target) as client:
        exec(found[1], {"client": client})
    assert capsys.readouterr().out == found[2]


def test_every_setting_and_every_text_stands_on_the_page() -> None:
    settings = [name for name in ConversationConfig.model_fields if f"| `{name}` |" not in PAGE]
    assert not settings
    texts = re.findall(r"^(\w+) = ", packaged("converse.toml"), re.M)
    assert not [name for name in [*texts, "attributes"] if f"`{name}`" not in PAGE]
