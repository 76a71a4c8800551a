"""The sections `rerank` and `rating` of the configuration: how a language model puts candidates in
order, and how it predicts ratings.
"""

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

    lift_report: Path | None = None
    """File that `shortlist-server evaluate-rerank` writes, read again when it changes: a model with
    a version of the prompt that by it makes lists worse is not asked. None, the default, switches
    none off. Changes answers.
    """

    lift_confidence: float = Field(default=0.95, ge=0.5, lt=1)
    """Confidence at which a lift must be negative; also that of the intervals that
    `evaluate-rerank` writes. Changes answers.
    """

    lift_users_min: int = Field(default=100, ge=2, le=1_000_000_000)
    """Least number of users that a lift must have been measured with. Changes answers."""

    prompt_file: Path | None = None
    """Template that goes before the bundle's own, see docs/reranking.md. None, the default, takes
    the bundle's, or else the package's. Changes answers.
    """


class RatingConfig(BaseModel):
    """What is set of predicted ratings; the model itself is the section `llm`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    share: float = Field(default=0.8, gt=0, le=1)
    """Share of the budget by which the language model must have answered. Changes answers: without
    its ratings the bundle's scores stand.
    """

    history_count: int = Field(default=50, ge=1, le=1_000)
    """Most events of the user's history that it is shown: the newest, rated ones before others.
    Changes answers.
    """

    llm_weight: float = Field(default=0.5, gt=0, le=1e6, allow_inf_nan=False)
    """What a predicted rating counts in the score of a blend. Changes answers."""

    ranker_weight: float = Field(default=0.5, ge=0, le=1e6, allow_inf_nan=False)
    """What the ranking score counts in it. Changes answers."""

    prompt_file: Path | None = None
    """Template that goes before the package's own, see docs/rating.md. None, the default, takes
    that. Changes answers.
    """
