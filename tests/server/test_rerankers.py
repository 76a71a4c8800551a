"""The section `rerank` of the configuration."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from shortlist_server import app
from shortlist_server.config import ServerConfig, load_config
from shortlist_server.config_rerank import RerankConfig
from shortlist_server.errors import ConfigError
from shortlist_server.llm.prompt import rerank_prompt
from shortlist_server.rerankers import make_reranker

PAGE = (Path(__file__).parents[2] / "docs/reranking.md").read_text(encoding="utf-8")


class Model:
    identity = "fake/one"

    def complete(self, *arguments: Any, **options: Any) -> Any:
        raise NotImplementedError

    stream = complete


def configured(**rerank: Any) -> ServerConfig:
    return ServerConfig.model_validate({"bundle": "x", "rerank": rerank})


def test_every_setting_stands_in_the_table_and_is_described() -> None:
    _, _, after = PAGE.partition("| setting | default | meaning |")
    table = after.partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(RerankConfig.model_fields)
    assert all(field.description for field in RerankConfig.model_fields.values())


def test_every_field_of_a_prompt_stands_in_the_table() -> None:
    _, _, after = PAGE.partition("| field | meaning |")
    names = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| ([^|]*) \|", after, re.MULTILINE))))
    assert {"title", "attributes", "system", "user", "whole", "subset", "reasons"} <= names


def test_the_share_reaches_the_budget() -> None:
    assert app.generation_options(configured(share=0.5)).shares.rerank == 0.5
    assert app.generation_options(configured()).shares.rerank == 0.8


def test_without_a_model_nobody_is_asked() -> None:
    assert make_reranker(configured(), None) is None
    assert make_reranker(configured(), Model()) is not None


def test_a_prompt_file_is_taken(tmp_path: Path) -> None:
    source = resource()
    (tmp_path / "own.toml").write_text(source.replace("for one user", "for this user"))
    reranker = make_reranker(configured(prompt_file=tmp_path / "own.toml"), Model())
    assert reranker is not None
    assert "for this user" in rerank_prompt(reranker._options.template).system


def resource() -> str:
    folder = Path(__file__).parents[2] / "server/shortlist_server/llm/prompts"
    return (folder / "rerank.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"\xff", "expected UTF-8"),
        (b"title = 3", "system: expected a text, got None"),
        (b"title", "expected TOML"),
    ],
)
def test_a_prompt_file_that_is_none_is_refused_by_its_field(
    tmp_path: Path, data: bytes | None, message: str
) -> None:
    file = tmp_path / "own.toml"
    if data is not None:
        file.write_bytes(data)
    # Also where no model would read it: it is a mistake all the same.
    for model in (None, Model()):
        with pytest.raises(ConfigError, match=f"rerank.prompt_file: {file}: {message}"):
            make_reranker(configured(prompt_file=file), model)


@pytest.mark.parametrize(
    ("section", "field"),
    [("share = 0", "rerank.share"), ("history_count = 0", "rerank.history_count"),
     ("shar = 1", "rerank.shar")],
)  # fmt: skip
def test_a_wrong_setting_is_refused_by_its_name(tmp_path: Path, section: str, field: str) -> None:
    file = tmp_path / "server.toml"
    file.write_text(f'bundle = "x"\n[rerank]\n{section}\n')
    with pytest.raises(ConfigError, match=rf"^{field} \({file}\)"):
        load_config(file, {})


def test_the_environment_sets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORTLIST_SERVER_RERANK__SHARE", "0.4")
    assert load_config(None, {"bundle": "x"}).rerank.share == 0.4
