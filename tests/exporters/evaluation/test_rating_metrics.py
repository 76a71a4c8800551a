from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from shortlist_exporters.evaluation.rating_metrics import (
    area_under_roc,
    calibration,
    calibration_error,
    ranking_auc,
    rating_measures,
)

NONE = float("nan")
scores = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=12)


def test_errors_are_means_over_the_pairs_that_have_both_numbers() -> None:
    predicted = np.array([4.0, 3.0, NONE, 2.0, 5.0])
    given_ = np.array([5.0, 3.0, 1.0, 4.0, NONE])

    figures = rating_measures(predicted, given_, np.array([0, 3, 5]))

    assert figures["rmse"].value == pytest.approx(np.sqrt((1 + 0 + 4) / 3))
    assert figures["mae"].value == pytest.approx(1.0)
    assert figures["rating_bias"].value == pytest.approx((-1 + 0 - 2) / 3)


def test_nothing_predicted_is_no_number() -> None:
    figures = rating_measures(np.array([NONE]), np.array([4.0]), np.array([0, 1]))

    assert np.isnan(figures["rmse"].value)


@given(scores, scores)
def test_area_is_the_u_statistic(positive: list[float], negative: list[float]) -> None:
    statistic = mannwhitneyu(positive, negative).statistic

    area = area_under_roc(np.array(positive), np.array(negative))

    assert area == pytest.approx(statistic / (len(positive) * len(negative)))


def test_auc_is_of_the_users_who_liked_some_things_and_not_others() -> None:
    score = np.array([0.9, 0.1, 0.5, 0.7, 0.2, 0.3])
    liked = np.array([True, False, False, False, True, True])

    # The first user's one liked item is above both others; the second has one of each, in the
    # wrong order; the third liked all there is.
    auc = ranking_auc(score, liked, np.array([0, 3, 5, 6]))

    assert auc.value == pytest.approx((1.0 + 0.0) / 2)
    assert auc.denominators.tolist() == [1.0, 1.0, 0.0]


def test_calibration_has_bins_of_equally_many_predictions() -> None:
    predicted = np.array([1.0, 5.0, 2.0, 4.0, NONE])
    given_ = np.array([2.0, 4.0, 2.0, 4.0, 1.0])

    bins = calibration(predicted, given_, bin_count=2)

    assert [(one.count, one.predicted, one.given) for one in bins] == [(2, 1.5, 2.0), (2, 4.5, 4.0)]
    assert calibration_error(bins) == pytest.approx(0.5)


def test_calibration_of_nothing_is_no_number() -> None:
    assert calibration(np.array([NONE]), np.array([1.0])) == []
    assert np.isnan(calibration_error([]))
