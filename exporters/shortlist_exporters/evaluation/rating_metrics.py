"""How near predicted ratings are to those that were given, and whether scores order them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shortlist_exporters.evaluation.measures import Floats, Measure, mean_over_users

Integers = NDArray[np.int64]


def rating_measures(predicted: Floats, given: Floats, offsets: Integers) -> dict[str, Measure]:
    """Return RMSE, MAE and the mean error of predicted ratings; pairs that lack either number have
    no part in them.

    Herlocker, Konstan, Terveen, Riedl: Evaluating Collaborative Filtering Recommender Systems
    (TOIS 2004), 4.1. Means are over pairs, not over users.

    Args:
        predicted: [pairs]: NaN where there is none.
        given: The same.
        offsets: [users + 1]: the pairs of user i are `offsets[i]` to `offsets[i + 1]`.
    """
    error = predicted - given
    known = np.isfinite(error)
    counts = _by_user(known.astype(np.float64), offsets)

    def mean(values: Floats, *, root: bool = False) -> Measure:
        sums = _by_user(np.where(known, values, 0.0), offsets)
        return Measure(numerators=sums, denominators=counts, root=root)

    return {
        "rmse": mean(np.square(error), root=True),
        "mae": mean(np.abs(error)),
        "rating_bias": mean(error),
    }


def ranking_auc(scores: Floats, liked: NDArray[np.bool_], offsets: Integers) -> Measure:
    """Return how likely an item that a user liked scores above one that he did not, in the mean
    over the users who have both (ties count half).

    Hanley, McNeil: The Meaning and Use of the Area under a ROC Curve (Radiology 1982).

    Args:
        scores: [pairs]: NaN where there is none.
        liked: [pairs].
        offsets: [users + 1].
    """
    values = np.full(len(offsets) - 1, np.nan)
    for user, (begin, end) in enumerate(zip(offsets[:-1], offsets[1:], strict=True)):
        score, good = scores[begin:end], liked[begin:end]
        known = np.isfinite(score)
        values[user] = area_under_roc(score[known & good], score[known & ~good])
    return mean_over_users(values)


def area_under_roc(positive: Floats, negative: Floats) -> float:
    """Return the share of pairs of a positive and a negative in which the positive is higher, ties
    half; NaN where there are none of one kind.
    """
    if not len(positive) or not len(negative):
        return float("nan")
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left")
    not_above = np.searchsorted(ordered, positive, side="right")
    return float((below + not_above).sum() / (2 * len(positive) * len(negative)))


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationBin:
    """Predictions of about the same size."""

    count: int
    predicted: float
    """Mean prediction."""
    given: float
    """Mean rating that was given."""


def calibration(predicted: Floats, given: Floats, bin_count: int = 10) -> list[CalibrationBin]:
    """Return predicted and given ratings in bins of equally many predictions, lowest first.

    Quantile bins, as for the adaptive calibration error of Nixon et al.: Measuring Calibration in
    Deep Learning (CVPR Workshops 2019).
    """
    known = np.isfinite(predicted) & np.isfinite(given)
    predicted, given = predicted[known], given[known]
    order = np.argsort(predicted, kind="stable")
    return [
        CalibrationBin(
            count=len(part),
            predicted=float(predicted[part].mean()),
            given=float(given[part].mean()),
        )
        for part in np.array_split(order, bin_count)
        if len(part)
    ]


def calibration_error(bins: list[CalibrationBin]) -> float:
    """Return the mean distance of predicted and given ratings over bins, by how many are in each;
    NaN without any.
    """
    total = sum(one.count for one in bins)
    if not total:
        return float("nan")
    return sum(one.count * abs(one.predicted - one.given) for one in bins) / total


def _by_user(values: Floats, offsets: Integers) -> Floats:
    sums: Floats = np.add.reduceat(values, offsets[:-1])
    return sums
