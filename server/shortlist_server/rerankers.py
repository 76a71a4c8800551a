"""What the configuration says of how a language model puts candidates in order, and rates items."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from shortlist_server.config import ServerConfig
from shortlist_server.errors import ConfigError
from shortlist_server.llm.language_model import LanguageModel
from shortlist_server.llm.lift_report import LiftReportInvalid
from shortlist_server.llm.lift_switch import LiftOptions, LiftSwitch
from shortlist_server.llm.prompt import PromptInvalid, rating_prompt, rerank_prompt
from shortlist_server.stages.rating import LlmRater, RaterOptions
from shortlist_server.stages.rerank import LlmReranker, RerankerOptions


def make_reranker(config: ServerConfig, model: LanguageModel | None) -> LlmReranker | None:
    """Return who asks a language model for the order of candidates; None where there is no model.

    Raises:
        ConfigError: the prompt or the lift report cannot be read, or is none.
    """
    template = _template("rerank", config.rerank.prompt_file, rerank_prompt)
    lift = _lift_switch(config)
    if model is None:
        return None
    options = RerankerOptions(template=template, history_count=config.rerank.history_count)
    return LlmReranker(model, options, lift)


def make_rater(config: ServerConfig, model: LanguageModel | None) -> LlmRater | None:
    """Return who asks a language model for ratings; None where there is no model.

    Raises:
        ConfigError: the prompt cannot be read, or is none.
    """
    rating = config.rating
    template = _template("rating", rating.prompt_file, rating_prompt)
    if model is None:
        return None
    options = RaterOptions(
        template=template,
        history_count=rating.history_count,
        llm_weight=rating.llm_weight,
        ranker_weight=rating.ranker_weight,
    )
    return LlmRater(model, options)


def _lift_switch(config: ServerConfig) -> LiftSwitch | None:
    file = config.rerank.lift_report
    if file is None:
        return None
    options = LiftOptions(
        file=file,
        confidence=config.rerank.lift_confidence,
        users_min=config.rerank.lift_users_min,
    )
    try:
        return LiftSwitch(options)
    except LiftReportInvalid as error:
        raise ConfigError(f"rerank.lift_report: {file}: {error}") from error
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
        raise ConfigError(f"rerank.lift_report: {file}: {problem}") from error


def _template(section: str, file: Path | None, read: Callable[[str], Any]) -> str:
    if file is None:
        return ""
    where = f"{section}.prompt_file: {file}"
    try:
        text = file.read_text(encoding="utf-8")
        read(text)
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: expected UTF-8: {error.reason}") from error
    except PromptInvalid as error:
        raise ConfigError(f"{where}: {error}") from error
    return text
