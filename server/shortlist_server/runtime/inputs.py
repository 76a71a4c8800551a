"""Raw values to the input tensors of a model, as its manifest entry says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortlist_server.bundle.manifest import TEXT_SOURCE, Feature, Input, Model
from shortlist_server.errors import BundleCorrupt
from shortlist_server.runtime.featurize import Featurizer, Raw, VocabularyIndex

ITEM_PREFIX = "item."
INDEX_SOURCE = "request.index"
SCORE_SOURCE = "retrieval.score"


class ModelInputs:
    """The inputs of one model, sorted by who supplies them."""

    def __init__(
        self,
        model: Model,
        features: Iterable[Feature],
        vocabularies: Mapping[str, VocabularyIndex],
    ) -> None:
        """Prepare a featurizer for each input.

        Raises:
            BundleCorrupt: an input's source is not a declared feature, or its transforms cannot
                work.
        """
        declared = {feature.name: feature for feature in features}
        self._request: list[tuple[Input, Featurizer]] = []
        self._item: list[tuple[Input, Featurizer]] = []
        self._text: list[Input] = []
        self._index: Input | None = None
        self._score: Input | None = None
        for tensor in model.inputs:
            if tensor.source == INDEX_SOURCE:
                self._index = tensor
            elif tensor.source == SCORE_SOURCE:
                self._score = tensor
            elif tensor.source == TEXT_SOURCE:
                self._text.append(tensor)
            else:
                default = _default(tensor, declared, model.file)
                entry = (tensor, Featurizer(tensor, default=default, vocabularies=vocabularies))
                (self._item if tensor.source.startswith(ITEM_PREFIX) else self._request).append(
                    entry
                )

        self.request_sources = frozenset(tensor.source for tensor, _ in self._request)
        """Sources that a request supplies: `user.*`, `context.*` and `history.*`."""
        self.item_sources = frozenset(tensor.source for tensor, _ in self._item)
        """Sources that an item supplies: `item.*`."""
        self.reads_texts = bool(self._text)
        """Whether an input takes the points of the items' texts."""

    def request_feeds(self, values: Mapping[str, Raw]) -> dict[str, NDArray[Any]]:
        """Return the request-side inputs of one request, [1, ...] each.

        Args:
            values: Raw values by source; absent ones take the feature's default.
        """
        return {
            tensor.name: featurize([values.get(tensor.source)])
            for tensor, featurize in self._request
        }

    def item_feeds(
        self, columns: Mapping[str, Sequence[Raw]], texts: NDArray[np.float32] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Return the item-side inputs of n items, [n, ...] each.

        Args:
            columns: Raw values by source, one for each item.
            texts: Points of the items' texts, [n, dimension], zeros where one has none; None where
                no input reads them.
        """
        feeds: dict[str, NDArray[Any]] = {
            tensor.name: featurize(columns[tensor.source]) for tensor, featurize in self._item
        }
        for tensor in self._text:
            assert texts is not None, f"no texts for {tensor.name}"
            feeds[tensor.name] = texts
        return feeds

    def candidate_feeds(
        self,
        request: Mapping[str, NDArray[Any]],
        items: Mapping[str, NDArray[Any]],
        count: int,
        retrieval_scores: NDArray[np.float32] | None,
    ) -> dict[str, NDArray[Any]]:
        """Join one request with n candidates into the inputs of a ranker.

        Args:
            request: What `request_feeds` gave.
            items: Item-side inputs of the candidates, [n, ...] each.
            count: n.
            retrieval_scores: float32 [n]; None where there are none, which a ranker sees as 0.
        """
        feeds = dict(items)
        if self._index is not None:
            feeds[self._index.name] = np.zeros(count, self._index.dtype)
            feeds.update(request)
        else:
            feeds.update({name: np.repeat(value, count, axis=0) for name, value in request.items()})
        if self._score is not None:
            scores = np.zeros(count) if retrieval_scores is None else retrieval_scores
            shape = (count,) + (1,) * (len(self._score.shape) - 1)
            feeds[self._score.name] = scores.astype(self._score.dtype).reshape(shape)
        return feeds


def item_columns(
    sources: Iterable[str], ids: Sequence[str], columns: Mapping[str, Sequence[Raw]], file: str
) -> dict[str, Sequence[Raw]]:
    """Return the raw values of item sources (`item.id`, `item.genres`), one for each item.

    Raises:
        BundleCorrupt: a source is not a column of the items.
    """
    available = {f"{ITEM_PREFIX}{name}": cells for name, cells in columns.items()} | {
        "item.id": ids
    }
    for source in sources:
        if source not in available:
            raise BundleCorrupt(
                f"{file}: an input comes from {source!r}; expected one of {sorted(available)}; "
                "add the column to the items, or correct the input's source"
            )
    return {source: available[source] for source in sources}


def _default(tensor: Input, declared: Mapping[str, Feature], file: str) -> Any:
    source = tensor.source
    if source in ("user.id", "item.id"):
        return ""
    if source.startswith("history."):
        return []
    if source not in declared:
        raise BundleCorrupt(
            f"{file}: input {tensor.name!r} comes from {source!r}; expected a declared feature, "
            f"one of {sorted(declared)}; declare it in `features`"
        )
    return declared[source].default
