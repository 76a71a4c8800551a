"""The section `rating` of the configuration."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from shortlist_server import app
from shortlist_server.config import ServerConfig, load_config
from shortlist_server.config_rerank import RatingConfig
from shortlist_server.errors import ConfigError
from shortlist_server.llm.prompt import PromptInvalid, rating_prompt
from shortlist_server.rerankers import make_rater

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/rating.md").read_text(encoding="utf-8")
PROMPT = ROOT / "server/shortlist_server/llm/prompts/rating.toml"


class Model:
    identity = "fake/one"

    def complete(self, *arguments: Any, **options: Any) -> Any:
        raise NotImplementedError

    stream = complete


def configured(**rating: Any) -> ServerConfig:
    return ServerConfig.model_validate({"bundle": "x", "rating": rating})


def test_every_setting_stands_in_the_table_and_is_described() -> None:
    _, _, after = PAGE.partition("| setting | default | meaning |")
    table = after.partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(RatingConfig.model_fields)
    assert all(field.description for field in RatingConfig.model_fields.values())


def test_every_field_of_a_prompt_stands_in_the_table() -> None:
    _, _, after = PAGE.partition("| field | meaning |")
    names = set(re.findall(r"^\| `(\w+)` \|", after, re.MULTILINE))
    assert names == {"title", "attributes", "system", "user"}


def test_the_share_reaches_the_budget() -> None:
    assert app.generation_options(configured(share=0.5)).shares.rating == 0.5
    assert app.generation_options(configured()).shares.rating == 0.8


def test_without_a_model_nobody_is_asked() -> None:
    assert make_rater(configured(), None) is None
    assert make_rater(configured(), Model()) is not None


def test_a_prompt_that_is_none_is_refused_by_its_field(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('title = "title"\nsystem = "Rate."\nuser = "these"\n')
    for model in (None, Model()):
        with pytest.raises(
            ConfigError, match=rf"rating.prompt_file: {file}: user: expected \$data"
        ):
            make_rater(configured(prompt_file=file), model)
    with pytest.raises(ConfigError, match=r"rating.prompt_file: .*: cannot be read: No such file"):
        make_rater(configured(prompt_file=tmp_path / "none.toml"), None)


def test_a_prompt_of_re_ranking_is_no_prompt_of_ratings() -> None:
    with pytest.raises(PromptInvalid, match="got 'reasons'"):
        rating_prompt((PROMPT.parent / "rerank.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("section", "field"),
    [
        ("share = 0", "rating.share"),
        ("history_count = 0", "rating.history_count"),
        ("llm_weight = 0", "rating.llm_weight"),
        ("ranker_weight = -1", "rating.ranker_weight"),
        ("ranker_weight = inf", "rating.ranker_weight"),
        ("weight = 1", "rating.weight"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(tmp_path: Path, section: str, field: str) -> None:
    file = tmp_path / "server.toml"
    file.write_text(f'bundle = "x"\n[rating]\n{section}\n')
    with pytest.raises(ConfigError, match=rf"^{field} \({file}\)"):
        load_config(file, {})
