"""docs/conversation.md: its transcript is what `shortlist converse` prints, with a language model
that answers by the rules of `tests/conversing.py` behind the real SDK.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from conftest import RunningServer
from conversing import served, understand, word
from llm_stub import LlmStub
from shortlist_client.cli import main
from shortlist_exporters.export import export_bundle
from shortlist_server.config_conversation import ConversationConfig
from shortlist_server.generation import load_generation
from shortlist_server.llm.prompt import packaged

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "conversation.md").read_text(encoding="utf-8")
TRANSCRIPT = re.compile(r"^```console\n\$ shortlist ((?:.*\\\n)*.*)\n([\s\S]*?)^```", re.M)


def test_the_transcript_is_what_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location("films", DOCS / "examples/films.py")
    assert spec is not None
    assert spec.loader is not None
    films = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(films)
    export_bundle(films.write_spec(tmp_path / "spec"), tmp_path / "bundle", version="1")
    generation = load_generation(tmp_path / "bundle")
    found = TRANSCRIPT.search(PAGE)
    assert found
    command, expected = found.groups()
    with LlmStub() as stub:
        stub.rule, stub.talk = understand, word
        server = RunningServer(tmp_path / "bundle", generation, llm=served("gemini", stub))
        monkeypatch.setenv("SHORTLIST_TARGET", server.target)
        capsys.readouterr()
        code = main(shlex.split(command.replace("\\\n", " ")))
        server.stop()
    generation.close()
    assert code == 0
    printed = capsys.readouterr().out
    assert printed == expected
    # Six turns: a mood, a genre, "not that one", "older", "why?", a swap; a model in each.
    assert expected.count("\n> ") + 1 == 6
    assert "without a language model" not in expected


def test_every_setting_and_every_text_stands_on_the_page() -> None:
    settings = [name for name in ConversationConfig.model_fields if f"| `{name}` |" not in PAGE]
    assert not settings
    texts = re.findall(r"^(\w+) = ", packaged("converse.toml"), re.M)
    assert not [name for name in [*texts, "attributes"] if f"`{name}`" not in PAGE]
