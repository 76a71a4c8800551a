"""Measures a served bundle, and baselines beside it, on a held-out part: read this first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from shortlist_exporters.evaluation.asking import Scored, Search, Served
from shortlist_exporters.evaluation.baselines import BASELINES, Scorer, top_lists
from shortlist_exporters.evaluation.catalog_metrics import catalog_measures, coverage, gini
from shortlist_exporters.evaluation.holdout import Floats, Holdout, Integers
from shortlist_exporters.evaluation.list_metrics import list_measures, ranks, sampled_measures
from shortlist_exporters.evaluation.measures import Measure
from shortlist_exporters.evaluation.negatives import Negatives, draw_negatives, place_among
from shortlist_exporters.evaluation.rating_metrics import (
    CalibrationBin,
    calibration,
    calibration_error,
    ranking_auc,
    rating_measures,
)
from shortlist_exporters.evaluation.stages import StageLists, index_recall, stage_measures
from shortlist_exporters.progress import step

RANKED_AT_ONCE = 4_096
"""Most items that one call of `Rank` takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """How a bundle is measured. All of them change figures."""

    cutoffs: tuple[int, ...] = (1, 5, 10, 50, 100)
    """Values of k, rising, 1 to 500."""
    candidate_count: int = 200
    """Candidates of each source: the last cutoff to 4,096."""
    search: Search = field(default_factory=Search)
    index_ef: int = 200
    """Search width with which the index is measured alone."""
    negatives: Negatives | None = None
    """None: lists of the whole catalogue. Else each test pair is ranked among so many, by
    `Rank`."""
    liked_from: float = 4.0
    """Least rating that counts as liked, for the AUC of the ranker."""
    seed: int = 42
    """Of negatives, baselines and intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured of one recommender."""

    measures: dict[str, Measure] = field(default_factory=dict)
    """Figures that have intervals, by name."""
    totals: dict[str, float] = field(default_factory=dict)
    """Figures of all lists together, which have none."""
    stages: dict[str, dict[str, Measure]] = field(default_factory=dict)
    """By stage; see `stage_measures`. Empty for baselines, and with sampled negatives."""
    calibration: list[CalibrationBin] = field(default_factory=list)
    degraded_count: int = 0
    """Answers that a part of the funnel was left out of."""
    unknown_users: int = 0
    """Test users whom the bundle does not know."""
    unknown_pairs: int = 0
    """Test pairs whose item it does not know: no list can hold them."""


def measure_bundle(served: Served, holdout: Holdout, options: EvaluationOptions) -> Measured:
    """Measure what a bundle answers for every test user.

    Raises:
        ShortlistError: a user cannot be answered.
    """
    drawn = None
    if options.negatives is not None:
        drawn = draw_negatives(holdout, options.negatives, options.seed)
    scores, ratings, known = _ranked(served, holdout, drawn)
    found = _of_ratings(scores, ratings, holdout, options)
    if drawn is None:
        lists = _lists(served, holdout, options)
        measures, totals = _of_lists(lists.served, holdout, options.cutoffs)
        stages = stage_measures(lists, holdout, options.cutoffs)
        measures["index_recall"] = index_recall(lists.exact, lists.index)
    else:
        measures = _sampled(scores, drawn, holdout, options.cutoffs)
        totals, stages = {}, {}
    own = _of_pairs(scores, holdout)
    return Measured(
        measures=measures | found.measures,
        totals=totals | found.totals,
        stages=stages,
        calibration=found.calibration,
        degraded_count=served.degraded_count,
        unknown_users=len(known) - sum(known),
        unknown_pairs=int(np.isnan(own).sum()),
    )


def measure_baseline(name: str, holdout: Holdout, options: EvaluationOptions) -> Measured:
    """Let a baseline learn from the training part, and measure it as a bundle is.

    Raises:
        ConfigError: the data are too large for it.
        MissingExtra: it needs a library that is not installed.
    """
    with step(f"baseline {name}"):
        scorer = BASELINES[name].learn(holdout.train, options.seed)
        if options.negatives is not None:
            drawn = draw_negatives(holdout, options.negatives, options.seed)
            scores = _baseline_scores(scorer, holdout)
            return Measured(measures=_sampled(scores, drawn, holdout, options.cutoffs))
        lists = top_lists(
            scorer, holdout, options.cutoffs[-1], exclude_seen=options.search.exclude_seen
        )
        measures, totals = _of_lists(lists, holdout, options.cutoffs)
        return Measured(measures=measures, totals=totals)


def _baseline_scores(scorer: Scorer, holdout: Holdout) -> list[_Scores]:
    everything = np.arange(len(holdout.item_ids))
    return [
        _Scores(items=everything, values=scorer(np.array([row]))[0])
        for row in holdout.train_rows.tolist()
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scores:
    """What one user's items score."""

    items: Integers
    """Rising."""
    values: Floats
    """-inf where the bundle does not know the item."""

    def of(self, items: Integers) -> Floats:
        """Return the scores of some of the items, in their shape."""
        values: Floats = self.values[np.searchsorted(self.items, items)]
        return values


# What is asked of the bundle.


def _lists(served: Served, holdout: Holdout, options: EvaluationOptions) -> StageLists:
    users, count = holdout.user_ids, options.candidate_count
    seen = options.search.exclude_seen
    limit = options.cutoffs[-1]
    searches = {
        "exact": Search(exclude_seen=seen, exact=True),
        "index": Search(exclude_seen=seen, ef=options.index_ef),
        "candidates": options.search,
    }
    found: dict[Search, Integers] = {}
    for name, search in searches.items():
        if search not in found:
            with step(f"retrieve: {name}", len(users)) as done:
                lists = served.retrieve(users, count, search, done)
            found[search] = holdout.codes(lists, max(map(len, lists), default=count))
    with step("recommend", len(users)) as done:
        final = served.recommend(users, limit, count, options.search, done)
    return StageLists(
        **{name: found[search] for name, search in searches.items()},
        served=holdout.codes(final, limit),
    )


def _ranked(
    served: Served, holdout: Holdout, drawn: Sequence[Integers] | None
) -> tuple[list[_Scores], Floats, list[bool]]:
    """Return the scores of each user's items, the predicted rating of each pair, and which users
    are known.
    """
    asked: list[Integers] = []
    for user in range(len(holdout.user_ids)):
        own = holdout.test_items(user)
        asked.append(np.unique(own if drawn is None else np.append(own, drawn[user].ravel())))
    parts = [
        (user, items[begin : begin + RANKED_AT_ONCE])
        for user, items in enumerate(asked)
        for begin in range(0, len(items), RANKED_AT_ONCE)
    ]
    names = [[holdout.item_ids[item] for item in items.tolist()] for _, items in parts]
    with step("rank", len(parts)) as done:
        answers = served.rank([holdout.user_ids[user] for user, _ in parts], names, done)
    scores = [_Scores(items=items, values=np.full(len(items), -np.inf)) for items in asked]
    ratings: list[dict[str, float]] = [{} for _ in asked]
    known = [True] * len(asked)
    for (user, items), ids, answer in zip(parts, names, answers, strict=True):
        places = np.searchsorted(scores[user].items, items)
        scores[user].values[places] = _in_order(answer, ids)
        ratings[user] |= answer.ratings
        known[user] = answer.known_user
    predicted = [
        ratings[user].get(holdout.item_ids[item], np.nan)
        for user, item in zip(holdout.pair_users.tolist(), holdout.items.tolist(), strict=True)
    ]
    return scores, np.array(predicted, np.float64), known


def _in_order(answer: Scored, ids: Sequence[str]) -> Floats:
    return np.array([answer.scores.get(item_id, -np.inf) for item_id in ids], np.float64)


# What the answers are worth.


def _of_lists(
    lists: Integers, holdout: Holdout, cutoffs: Sequence[int]
) -> tuple[dict[str, Measure], dict[str, float]]:
    places = ranks(lists, holdout.offsets, holdout.items)
    measures = list_measures(places, holdout.offsets, cutoffs)
    measures |= catalog_measures(lists, train=holdout.train, seen=holdout.seen, cutoffs=cutoffs)
    count = len(holdout.item_ids)
    totals = {f"coverage_at_{k}": coverage(lists, count, k) for k in cutoffs}
    return measures, totals | {f"gini_at_{k}": gini(lists, count, k) for k in cutoffs}


def _sampled(
    scores: Sequence[_Scores],
    drawn: Sequence[Integers],
    holdout: Holdout,
    cutoffs: Sequence[int],
) -> dict[str, Measure]:
    above, ties, counts = [], [], []
    for user, (of_user, negatives) in enumerate(zip(scores, drawn, strict=True)):
        own = holdout.test_items(user)
        higher, same = place_among(of_user.of(own), of_user.of(negatives))
        above.append(higher)
        ties.append(same)
        counts.append(np.full(len(own), negatives.shape[1]))
    return sampled_measures(
        np.concatenate(above),
        np.concatenate(ties),
        np.concatenate(counts),
        holdout.offsets,
        cutoffs,
    )


def _of_pairs(scores: Sequence[_Scores], holdout: Holdout) -> Floats:
    """Return the score of each pair, NaN where the bundle gives none."""
    own = [of_user.of(holdout.test_items(user)) for user, of_user in enumerate(scores)]
    values: Floats = np.concatenate(own)
    return np.where(np.isneginf(values), np.nan, values)


def _of_ratings(
    scores: Sequence[_Scores], predicted: Floats, holdout: Holdout, options: EvaluationOptions
) -> Measured:
    given = holdout.ratings
    if not np.isfinite(given).any():
        return Measured()
    own = np.where(np.isfinite(given), _of_pairs(scores, holdout), np.nan)
    measures = {"auc": ranking_auc(own, given >= options.liked_from, holdout.offsets)}
    if not np.isfinite(predicted).any():
        return Measured(measures=measures)
    bins = calibration(predicted, given)
    return Measured(
        measures=measures | dict(rating_measures(predicted, given, holdout.offsets)),
        totals={"calibration_error": calibration_error(bins)},
        calibration=bins,
    )
