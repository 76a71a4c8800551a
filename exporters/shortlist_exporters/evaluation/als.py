"""Implicit matrix factorization by alternating least squares, of the library `implicit`.

Its only importer. Hu, Koren, Volinsky: Collaborative Filtering for Implicit Feedback Datasets
(ICDM 2008). The settings are those of the best of a dozen on MovieLens 100K, so that its figures
there are somewhat optimistic.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shortlist_server.errors import MissingExtra

FACTOR_COUNT = 64
WEIGHT = 2.0
"""How much more an interaction counts than its absence: alpha."""
REGULARIZATION = 20.0
ITERATION_COUNT = 15


def learn(train: Any, seed: int) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
    """Return the scores of all items for rows of the training matrix.

    Args:
        train: [everybody, items] sparse ones.
        seed: Of the first factors; the same gives the same scores on one machine.

    Raises:
        MissingExtra: `implicit` is not installed.
    """
    try:
        from implicit.cpu.als import AlternatingLeastSquares
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingExtra(feature="the baseline als", extra="baselines") from error
    from scipy import sparse

    # It has threads of its own; BLAS' beside them make it several times slower.
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=FACTOR_COUNT,
            regularization=REGULARIZATION,
            alpha=WEIGHT,
            iterations=ITERATION_COUNT,
            num_threads=os.cpu_count() or 1,
            random_state=seed,
        )
        model.fit(sparse.csr_matrix(train), show_progress=False)
    items = model.item_factors.T.copy()
    return lambda rows: model.user_factors[rows] @ items
