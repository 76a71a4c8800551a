"""The section `rerank` of the configuration: how a language model puts candidates in order."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class RerankConfig(BaseModel):
    """What is set of re-ranking; the model itself is the section `llm`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    share: float = Field(default=0.8, gt=0, le=1)
    """Share of the budget by which the language model must have answered. Changes answers: without
    its own the order of ranking stands.
    """

    history_count: int = Field(default=20, ge=1, le=200)
    """Most events of the user's history that it is shown: the newest. Changes answers."""

    prompt_file: Path | None = None
    """Template that goes before the bundle's own, see docs/reranking.md. None, the default, takes
    the bundle's, or else the package's. Changes answers.
    """
