"""Has a language model predict ratings of named items. Implements `funnel.stages.Rater`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from shortlist_server.funnel.rating import RATING_MAX, RATING_MIN, Rated, Rating
from shortlist_server.funnel.stages import RatingQuery
from shortlist_server.funnel.types import DegradedReason
from shortlist_server.llm.item_ratings import RATING_SCHEMA, ItemRatings, read_ratings
from shortlist_server.llm.language_model import LanguageModel, LanguageModelError
from shortlist_server.llm.prompt import RatingPrompt, rating_prompt
from shortlist_server.stages import told


@dataclass(frozen=True, slots=True, kw_only=True)
class RaterOptions:
    """How a language model is asked, and what its ratings count."""

    template: str = ""
    """A prompt in place of the package's own; empty: that."""
    history_count: int = 50
    """Most events of the user's history that it is shown: the newest, rated ones before others."""
    llm_weight: float = 0.5
    """What a rating counts in a blend."""
    ranker_weight: float = 0.5
    """What the ranking score counts in it."""


class LlmRater:
    """Asks a language model for a rating of each item, all in one call, and takes them only if they
    are of these items.
    """

    def __init__(self, model: LanguageModel, options: RaterOptions) -> None:
        """Take the model that is asked, and how.

        Raises:
            PromptInvalid: the options' template is none.
        """
        self._model = model
        self._options = options
        self._prompt = rating_prompt(options.template)

    async def rate(self, ask: RatingQuery) -> Rated:
        """Return a rating of each item, or say why the scores that they have stand."""
        if not len(ask.rows):
            return Rated(plan="no items")
        if why := told.nothing_to_ask(ask.query, ask.catalog):
            return Rated(plan=why)
        if ask.deadline_s <= 0:
            return Rated(plan="no time was left to ask", failure=DegradedReason.LLM_BUDGET_EXCEEDED)
        try:
            return await self._asked(ask, self._prompt)
        except LanguageModelError as error:
            return Rated(
                plan=str(error),
                failure=DegradedReason[error.reason],
                prompt=self._prompt.version,
                model=self._model.identity,
                input_token_count=0 if error.usage is None else error.usage.input_tokens,
                output_token_count=0 if error.usage is None else error.usage.output_tokens,
                price=error.cost,
            )
        except Exception as error:
            # An answer is not lost to a fault in what only refines it.
            return Rated(plan="it failed", failure=DegradedReason.FAILED, cause=error)

    async def _asked(self, ask: RatingQuery, prompt: RatingPrompt) -> Rated:
        # In an order that says nothing of their scores, nor of how the caller named them: who asks
        # for the same items again, in whatever order, gets the answer that was kept.
        by_id = sorted((ask.catalog.item_id(row), row) for row in ask.rows.tolist())
        seed = told.seed_of([item_id for item_id, _ in by_id])
        shown = np.array([by_id[place][1] for place in told.shuffle(len(by_id), seed)], np.int64)
        known = told.profile(
            ask.query,
            ask.catalog,
            prompt,
            history_count=self._options.history_count,
            rated_first=True,
        )
        handles = told.handles(len(shown))

        def ratings_of(value: Mapping[str, Any]) -> ItemRatings:
            return read_ratings(value, handles, lowest=RATING_MIN, highest=RATING_MAX)

        completion = await self._model.complete(
            prompt.messages(
                {**known, "items": told.items(ask.catalog, shown, prompt)}, count=len(shown)
            ),
            RATING_SCHEMA,
            deadline_s=ask.deadline_s,
            prompt_version=prompt.version,
            usable=lambda value: ratings_of(value).ratings is not None,
        )
        said = ratings_of(completion.value)
        wrong = ", ".join(sorted(said.violations))
        paid = None if completion.cached else completion.usage
        blend = ask.options.blend
        return Rated(
            plan=f"{self._model.identity}, {prompt.version}"
            if said.ratings is not None
            else f"its ratings are not those of the items: {wrong}",
            ratings={}
            if said.ratings is None
            else {
                row: Rating(value=value, clamped=place in said.clamped)
                for place, (row, value) in enumerate(zip(shown.tolist(), said.ratings, strict=True))
            },
            llm_weight=self._options.llm_weight if blend else 1.0,
            ranker_weight=self._options.ranker_weight if blend else 0.0,
            failure=None if said.ratings is not None else DegradedReason.LLM_INVALID_OUTPUT,
            prompt=prompt.version,
            model=self._model.identity,
            input_token_count=0 if paid is None else paid.input_tokens,
            output_token_count=0 if paid is None else paid.output_tokens,
            price=completion.cost,
            violations=tuple(sorted(said.violations)),
        )
