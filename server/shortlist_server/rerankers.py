"""What the configuration says of how a language model puts candidates in order."""

from __future__ import annotations

from pathlib import Path

from shortlist_server.config import ServerConfig
from shortlist_server.errors import ConfigError
from shortlist_server.llm.language_model import LanguageModel
from shortlist_server.llm.prompt import PromptInvalid, rerank_prompt
from shortlist_server.stages.rerank import LlmReranker, RerankerOptions


def make_reranker(config: ServerConfig, model: LanguageModel | None) -> LlmReranker | None:
    """Return who asks a language model for the order of candidates; None where there is no model.

    Raises:
        ConfigError: the prompt cannot be read, or is none.
    """
    file = config.rerank.prompt_file
    template = "" if file is None else _template(file)
    if model is None:
        return None
    options = RerankerOptions(template=template, history_count=config.rerank.history_count)
    return LlmReranker(model, options)


def _template(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8")
        rerank_prompt(text)
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
        raise ConfigError(f"rerank.prompt_file: {file}: {problem}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"rerank.prompt_file: {file}: expected UTF-8: {error.reason}") from error
    except PromptInvalid as error:
        raise ConfigError(f"rerank.prompt_file: {file}: {error}") from error
    return text
