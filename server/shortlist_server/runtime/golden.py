"""Replays the golden requests of a bundle: are its numbers still those of training?"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortlist_server.bundle.reader import Bundle
from shortlist_server.errors import BundleCorrupt
from shortlist_server.runtime.models import LoadedModel, bundle_feeds
from shortlist_server.runtime.parity import check_parity

Run = Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[np.float32]]]
"""Inputs of a model by name to its outputs by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenRequest:
    """One golden request: raw values by source, and items by row."""

    values: dict[str, Any]
    """By source: `user.id`, `user.age`, `context.hour`, `history.item_id`."""
    item_rows: NDArray[np.int64]
    retrieval_scores: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityReport:
    """How far one output was from training's, over all golden requests."""

    model: str
    output: str
    value_count: int
    difference_max: float


def replay(bundle: Bundle, models: Mapping[str, LoadedModel]) -> list[ParityReport]:
    """Answer the golden requests and compare every number with training's.

    Raises:
        BundleCorrupt: a golden file is not what the manifest says.
        ParityError: an output differs by more than its model's tolerance; the message names the
            first.
    """
    golden = bundle.manifest.golden
    if golden is None:
        return []
    rows = {item_id: row for row, item_id in enumerate(bundle.item_ids)}
    requests = parse_requests(bundle.path(golden.requests).read_bytes(), rows, golden.requests)
    reports = []
    computed = {
        name: _computed(bundle, name, model, requests, golden.requests)
        for name, model in models.items()
    }
    for expected in golden.outputs:
        if expected.model not in models or expected.output not in computed[expected.model]:
            raise BundleCorrupt(
                f"golden output {expected.model}.{expected.output}: expected an output of a model "
                "of the bundle, "
                f"got one of none: {sorted(models)}"
            )
        try:
            with bundle.path(expected.values).open("rb") as file:
                wanted = np.lib.format.read_array(file, allow_pickle=False)
        except Exception as error:  # numpy raises what its header parser raises
            raise BundleCorrupt(f"{expected.values}: expected a .npy array: {error}") from error
        got = computed[expected.model][expected.output]
        what = f"{expected.model}.{expected.output}"
        tolerance = models[expected.model].session.declared.tolerance
        reports.append(
            ParityReport(
                model=expected.model,
                output=expected.output,
                value_count=got.size,
                difference_max=check_parity(wanted, got, tolerance, f"golden output {what}"),
            )
        )
    return reports


def _computed(
    bundle: Bundle, name: str, model: LoadedModel, requests: Sequence[GoldenRequest], file: str
) -> dict[str, NDArray[np.float32]]:
    """Run one model over the golden requests; raises BundleCorrupt where they are not for it."""
    feeds_of_items = bundle_feeds(bundle, model)
    try:
        return run_golden(name, model, feeds_of_items, requests, model.session.run)
    except Exception as error:  # values of other types, items without scores, and more
        raise BundleCorrupt(
            f"{file}: expected requests that {model.session.declared.file} can answer: {error}"
        ) from error


def parse_requests(text: bytes, rows: Mapping[str, int], name: str) -> list[GoldenRequest]:
    """Parse golden requests; see `docs/bundle.md` for their JSON.

    Args:
        text: The JSON.
        rows: Row of each item id.
        name: What to call the file in errors.

    Raises:
        BundleCorrupt: they are not of that form, or name items that there are not.
    """
    try:
        return [
            GoldenRequest(
                values={str(source): value for source, value in request["values"].items()},
                item_rows=np.array([rows[item_id] for item_id in request["item_ids"]], np.int64),
                retrieval_scores=np.array(request["retrieval_scores"], np.float32)
                if "retrieval_scores" in request
                else None,
            )
            for request in json.loads(text)["requests"]
        ]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BundleCorrupt(
            f"{name}: expected golden requests as docs/bundle.md says: {error!r}"
        ) from error


def run_golden(
    name: str,
    model: LoadedModel,
    feeds_of_items: Mapping[str, NDArray[Any]],
    requests: Sequence[GoldenRequest],
    run: Run,
) -> dict[str, NDArray[np.float32]]:
    """Run one model over the golden requests.

    Args:
        name: Section name of the model.
        model: The model.
        feeds_of_items: What `item_feeds` gave for it.
        requests: The requests; all name equally many items.
        run: What answers: the model's own session, or the training framework.

    Returns:
        Outputs by name, stacked over the requests: query_tower [requests, dimension], item_tower
        [requests, items, dimension], ranker [requests, items].
    """
    stacked: dict[str, list[NDArray[np.float32]]] = {}
    for request in requests:
        for output, values in run(_feeds(name, model, feeds_of_items, request)).items():
            shaped = {"query_tower": values[0], "ranker": values.reshape(-1)}.get(name, values)
            stacked.setdefault(output, []).append(shaped)
    return {output: np.stack(values) for output, values in stacked.items()}


def _feeds(
    name: str,
    model: LoadedModel,
    feeds_of_items: Mapping[str, NDArray[Any]],
    request: GoldenRequest,
) -> dict[str, NDArray[Any]]:
    items = {tensor: values[request.item_rows] for tensor, values in feeds_of_items.items()}
    if name == "item_tower":
        return items
    asked = model.inputs.request_feeds(request.values)
    if name == "query_tower":
        return asked
    return model.inputs.candidate_feeds(
        asked, items, len(request.item_rows), request.retrieval_scores
    )
