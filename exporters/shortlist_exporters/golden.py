"""Golden requests: what the models answered in the training framework, for the server to be held
to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shortlist_server.bundle.writer import BundleWriter
from shortlist_server.errors import BundleError
from shortlist_server.runtime.golden import (
    GoldenRequest,
    Run,
    parse_requests,
    run_golden,
)
from shortlist_server.runtime.models import item_feeds
from shortlist_server.runtime.parity import check_parity

from shortlist_exporters.errors import ConversionError, SpecError
from shortlist_exporters.exported_model import ExportedModel
from shortlist_exporters.spec import GoldenSpec
from shortlist_exporters.tables import Interactions, Table

REQUEST_COUNT = 32
ITEM_COUNT = 16
HISTORY_COUNT = 20
UNKNOWN_USER = "\N{REPLACEMENT CHARACTER} a user whom nobody knows"


def write_golden(
    writer: BundleWriter,
    *,
    models: Mapping[str, ExportedModel],
    items: Table,
    texts: NDArray[np.float32] | None,
    users: Table,
    interactions: Interactions | None,
    embeddings: NDArray[np.float32],
    given: GoldenSpec | None,
    folder: Path,
) -> dict[str, Any] | None:
    """Write the golden requests, with what training's framework answers, into a bundle.

    Models that came as SavedModels answer in TensorFlow; those that came as ONNX files answer in
    ONNX Runtime, unless the spec brings their framework's answers along (`given`).

    Returns:
        The manifest's `golden` entry; None where there are no models.

    Raises:
        ConversionError: ONNX Runtime answers otherwise than the framework; the message names output
            and place.
        SpecError: what was given cannot be read.
    """
    if not models:
        return None
    feeds = {
        name: item_feeds(items.ids, items.by_name, model.loaded, texts)
        for name, model in models.items()
    }
    if given is None:
        requests = _choose(models, items, users, interactions, embeddings)
        expected, origin = _answer(models, feeds, requests)
    else:
        requests, expected, origin = _read(given, folder, items)
    _compare(models, feeds, requests, expected)
    return {
        "requests": writer.json("golden/requests.json", _document(requests, items)),
        "origin": origin,
        "outputs": [
            {
                "model": model,
                "output": output,
                "values": writer.array(f"golden/{model}.{position}.npy", values),
            }
            for position, ((model, output), values) in enumerate(expected.items())
        ],
    }


def _choose(
    models: Mapping[str, ExportedModel],
    items: Table,
    users: Table,
    interactions: Interactions | None,
    embeddings: NDArray[np.float32],
) -> list[GoldenRequest]:
    """Choose requests over the whole range of users and items, an unknown user among them."""
    user_count = len(users.ids)
    chosen = np.unique(
        np.linspace(0, user_count - 1, min(REQUEST_COUNT - 1, user_count)).astype(int)
    )
    requests = []
    for number, user_row in enumerate([*chosen.tolist(), None]):
        values: dict[str, Any] = {"user.id": UNKNOWN_USER}
        if user_row is not None:
            cells = {f"user.{name}": column[user_row] for name, column in users.by_name.items()}
            values = {name: value for name, value in cells.items() if value is not None}
            values["user.id"] = users.ids[user_row]
            if interactions is not None:
                rows = interactions.history(users.ids[user_row])[-HISTORY_COUNT:]
                values["history.item_id"] = [items.ids[row] for row in rows]
                values["history.rating"] = [0.0] * len(rows)
                values["history.time"] = [0] * len(rows)
        rows = (number * 7 + np.linspace(0, len(items.ids) - 1, ITEM_COUNT).astype(np.int64)) % len(
            items.ids
        )
        requests.append(GoldenRequest(values=values, item_rows=rows, retrieval_scores=None))
    if "query_tower" not in models:
        return requests
    return [_with_scores(models["query_tower"], request, embeddings) for request in requests]


def _with_scores(
    tower: ExportedModel, request: GoldenRequest, embeddings: NDArray[np.float32]
) -> GoldenRequest:
    feeds = tower.loaded.inputs.request_feeds(request.values)
    query = tower.loaded.session.run(feeds)[tower.declared.outputs[0].name][0]
    return GoldenRequest(
        values=request.values,
        item_rows=request.item_rows,
        retrieval_scores=(embeddings[request.item_rows] @ query).astype(np.float32),
    )


Outputs = dict[tuple[str, str], NDArray[np.float32]]
"""By model and output."""
Feeds = Mapping[str, NDArray[Any]]
"""A model's item-side inputs for every item."""


def _answer(
    models: Mapping[str, ExportedModel],
    feeds_of_items: Mapping[str, Feeds],
    requests: Sequence[GoldenRequest],
) -> tuple[Outputs, str]:
    expected: Outputs = {}
    origins = set()
    for name, model in models.items():
        run: Run = model.loaded.session.run
        if model.source.is_dir():
            from shortlist_exporters.onnx.tensorflow import SavedModel

            run = SavedModel(model.source).run
        origins.add("tensorflow" if model.source.is_dir() else "onnxruntime")
        answers = run_golden(name, model.loaded, feeds_of_items[name], requests, run)
        for output in model.declared.outputs:
            expected[name, output.name] = answers[output.name]
    return expected, " and ".join(sorted(origins))


def _compare(
    models: Mapping[str, ExportedModel],
    feeds_of_items: Mapping[str, Feeds],
    requests: Sequence[GoldenRequest],
    expected: Outputs,
) -> None:
    for name, model in models.items():
        run = model.loaded.session.run
        answers = run_golden(name, model.loaded, feeds_of_items[name], requests, run)
        for output, values in answers.items():
            if (name, output) not in expected:
                continue
            try:
                check_parity(
                    expected[name, output], values, model.declared.tolerance, f"{name}.{output}"
                )
            except BundleError as error:
                raise ConversionError(
                    f"{model.source}: the ONNX model does not answer as training did: {error}"
                ) from error


def _read(
    given: GoldenSpec, folder: Path, items: Table
) -> tuple[list[GoldenRequest], Outputs, str]:
    rows = {item_id: row for row, item_id in enumerate(items.ids)}
    try:
        requests = parse_requests((folder / given.requests).read_bytes(), rows, given.requests)
        expected: Outputs = {}
        for name, file in given.outputs.items():
            model, _, output = name.partition(".")
            expected[model, output] = np.load(folder / file, allow_pickle=False)
    except (OSError, ValueError, EOFError, BundleError) as error:
        raise SpecError(
            f"golden: expected requests and outputs that can be read: {error}"
        ) from error
    return requests, expected, given.origin


def _document(requests: Sequence[GoldenRequest], items: Table) -> dict[str, Any]:
    entries = []
    for request in requests:
        entry: dict[str, Any] = {
            "values": {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in request.values.items()
            },
            "item_ids": [items.ids[row] for row in request.item_rows],
        }
        if request.retrieval_scores is not None:
            entry["retrieval_scores"] = request.retrieval_scores.tolist()
        entries.append(entry)
    return {"requests": entries}
