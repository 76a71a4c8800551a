"""Random inputs by which a converted model is compared with its original."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shortlist_server.bundle.manifest import TEXT_SOURCE, Input
from shortlist_server.bundle.transforms import Bucketize, Hash, Length, Lookup, MultiHot, Tokenize

REQUEST_COUNT = 7
AXIS_SIZE = 5
"""Size of dynamic axes other than the first, for example the length of a history."""

Feeds = dict[str, NDArray[Any]]


def random_probe(
    inputs: Sequence[Input], *, vocabulary_sizes: Mapping[str, int], count: int = 500, seed: int = 0
) -> Feeds:
    """Return random values for a model's inputs, every index that serving can send among them.

    Indices are drawn from the whole range that an input's transforms can give, the unknown token
    included. An integer that no transform bounds is 0, the one value that every embedding has.

    Args:
        inputs: The inputs as declared. Where one is the `request.index`, the others of the request
            side get 7 rows, which the index points to.
        vocabulary_sizes: Number of tokens of each vocabulary; one that is not here counts as empty.
        count: Rows.
        seed: Same seed, same values.
    """
    generator = np.random.default_rng(seed)
    joined = any(tensor.source == "request.index" for tensor in inputs)
    feeds: Feeds = {}
    for tensor in inputs:
        rows = REQUEST_COUNT if joined and _is_request_side(tensor) else count
        shape = (rows, *(axis if isinstance(axis, int) else AXIS_SIZE for axis in tensor.shape[1:]))
        if tensor.source == "request.index":
            values: NDArray[Any] = generator.integers(0, REQUEST_COUNT, shape)
        else:
            values = _values(tensor, shape, vocabulary_sizes, generator)
        feeds[tensor.name] = values.astype(tensor.dtype)
    return feeds


def first_rows(feeds: Mapping[str, NDArray[Any]], inputs: Sequence[Input], count: int) -> Feeds:
    """Return the first rows of a probe; with a `request.index`, the request side stays whole."""
    joined = any(tensor.source == "request.index" for tensor in inputs)
    return {
        tensor.name: feeds[tensor.name]
        if joined and _is_request_side(tensor)
        else feeds[tensor.name][:count]
        for tensor in inputs
    }


def _is_request_side(tensor: Input) -> bool:
    return not tensor.source.startswith("item.") and tensor.source not in (
        "request.index",
        "retrieval.score",
        TEXT_SOURCE,
    )


def _values(
    tensor: Input,
    shape: tuple[int, ...],
    vocabulary_sizes: Mapping[str, int],
    generator: np.random.Generator,
) -> NDArray[Any]:
    low, high = 0, 1 if tensor.dtype.startswith("int") else None
    for transform in tensor.transforms:
        if isinstance(transform, Lookup):
            size = vocabulary_sizes.get(transform.vocabulary, 0)
            high = size + transform.oov_count + (transform.mask_token is not None)
        elif isinstance(transform, Tokenize):
            high = vocabulary_sizes.get(transform.vocabulary, 0) + 2
        elif isinstance(transform, Hash):
            high = transform.bins
        elif isinstance(transform, Bucketize):
            high = len(transform.boundaries) + 1
        elif isinstance(transform, Length):
            # Below 1, what a recurrent operator does is not defined alike everywhere.
            low, high = 1, transform.maximum + 1
        elif isinstance(transform, MultiHot):
            high = 2
    if tensor.dtype == "bool":
        high = 2
    return generator.normal(size=shape) if high is None else generator.integers(low, high, shape)
