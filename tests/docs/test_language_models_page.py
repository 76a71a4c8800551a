"""docs/language-models.md: its example is a configuration, and its tables are complete."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from shortlist_server.config import load_config
from shortlist_server.config_llm import LlmConfig, ServiceConfig, TextEmbedderConfig
from shortlist_server.llm import language_model

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/language-models.md").read_text(encoding="utf-8")
TABLES = dict(
    zip(
        ("shared", "llm", "text_embedder"),
        re.findall(r"\| setting \| default \| meaning \|\n.*\n((?:\|.*\n)+)", PAGE),
        strict=True,
    )
)


def test_the_example_is_a_configuration(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "server.toml"
    file.write_text(f'bundle = "x"\n{example}')
    config = load_config(file, {})
    assert config.llm is not None
    assert config.llm.money_per_hour == 5.0
    assert config.text_embedder is not None
    assert config.text_embedder.dimension == 384


@pytest.mark.parametrize(
    ("table", "model"),
    [("shared", ServiceConfig), ("llm", LlmConfig), ("text_embedder", TextEmbedderConfig)],
)
def test_every_setting_stands_in_the_table(table: str, model: Any) -> None:
    wanted = set(model.model_fields)
    if table != "shared":
        wanted -= set(ServiceConfig.model_fields)
    named = {
        name
        for row in TABLES[table].splitlines()
        for name in re.findall("`(.*?)`", row.split("|")[1])
    }
    shared_by_both = {"answer_bytes_max"}
    assert named - shared_by_both == wanted - shared_by_both
    for name, field in model.model_fields.items():
        assert field.description, name


def test_every_reason_stands_in_the_table() -> None:
    kinds = [
        kind
        for kind in vars(language_model).values()
        if isinstance(kind, type)
        and issubclass(kind, language_model.LanguageModelError)
        and hasattr(kind, "reason")
    ]
    assert {kind.reason for kind in kinds} == set(re.findall(r"^\| `(LLM_\w+)` \|", PAGE, re.M))
