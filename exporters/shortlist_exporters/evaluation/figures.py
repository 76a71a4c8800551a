"""An evaluation as a JSON document: what `--json` prints, and the page and the terminal show."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shortlist_exporters.evaluation.asking import Served
from shortlist_exporters.evaluation.baselines import BASELINES
from shortlist_exporters.evaluation.evaluation import EvaluationOptions, Measured
from shortlist_exporters.evaluation.holdout import Holdout
from shortlist_exporters.evaluation.measures import Measure
from shortlist_exporters.evaluation.resampling import differences, intervals

FORMAT = 1

Document = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What was measured on, beside the options."""

    data_name: str
    simulated: bool
    split: str
    """As `parse_split` reads it, or the name of the file with the test part."""
    reached: str
    """`in process`, or the address of a server."""
    relevant_from: float | None
    draw_count: int
    """Draws of the bootstrap."""
    notes: tuple[str, ...] = ()


def make_document(
    served: Served,
    measured: Measured,
    holdout: Holdout,
    setting: Setting,
    options: EvaluationOptions,
    baselines: Mapping[str, Measured],
) -> Document:
    """Return all figures with their intervals.

    Figures are `{"value", "low", "high"}`; those of all lists together have no bounds, and what is
    not a number is null.
    """
    return {
        "format": FORMAT,
        "bundle": {"name": served.name, "version": served.version, "reached": setting.reached},
        "data": {"name": setting.data_name, "simulated": setting.simulated},
        "split": setting.split,
        "protocol": "full" if options.negatives is None else options.negatives.text,
        "seen_excluded": options.search.exclude_seen,
        "search": options.search.text,
        "index_ef": options.index_ef,
        "candidate_count": options.candidate_count,
        "cutoffs": list(options.cutoffs),
        "relevant_from": setting.relevant_from,
        "liked_from": options.liked_from,
        "seed": options.seed,
        "draw_count": setting.draw_count,
        "counts": {
            "train_interactions": holdout.train_count,
            "test_pairs": len(holdout.items),
            "test_users": len(holdout.user_ids),
            "items": len(holdout.item_ids),
            "degraded_answers": measured.degraded_count,
            "unknown_users": measured.unknown_users,
            "unknown_pairs": measured.unknown_pairs,
            "dropped": dataclasses.asdict(holdout.dropped),
        },
        "metrics": _figures(measured, setting, options),
        "stages": {
            stage: _with_intervals(measures, setting, options)
            for stage, measures in measured.stages.items()
        },
        "calibration": [dataclasses.asdict(one) for one in measured.calibration],
        "baselines": {
            name: {
                "description": BASELINES[name].description,
                "metrics": _figures(one, setting, options),
            }
            for name, one in baselines.items()
        },
        "comparison": None,
        "notes": list(setting.notes),
    }


def make_comparison(
    measured: Measured,
    other: Measured,
    other_served: Served,
    setting: Setting,
    options: EvaluationOptions,
) -> Document:
    """Return the figures of another bundle, and how much higher those of the first are."""
    found = differences(
        measured.measures, other.measures, count=setting.draw_count, seed=options.seed
    )
    return {
        "bundle": {"name": other_served.name, "version": other_served.version},
        "metrics": _figures(other, setting, options),
        "differences": {
            name: {key: _number(value) for key, value in dataclasses.asdict(one).items()}
            for name, one in found.items()
        },
    }


def _figures(measured: Measured, setting: Setting, options: EvaluationOptions) -> Document:
    found = _with_intervals(measured.measures, setting, options)
    return found | {
        name: {"value": _number(value), "low": None, "high": None}
        for name, value in measured.totals.items()
    }


def _with_intervals(
    measures: Mapping[str, Measure], setting: Setting, options: EvaluationOptions
) -> Document:
    found = intervals(measures, count=setting.draw_count, seed=options.seed)
    return {
        name: {key: _number(value) for key, value in dataclasses.asdict(one).items()}
        for name, one in found.items()
    }


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
