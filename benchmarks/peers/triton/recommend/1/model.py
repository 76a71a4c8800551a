"""The funnel as a model of Triton's Python backend: what Triton has put into one batch is computed
at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as triton

# The backend's process does not heed PYTHONPATH.
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from peer_funnel import PeerFunnel


class TritonPythonModel:
    """One of two instances, in a process of its own."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the funnel."""
        self._funnel = PeerFunnel(Path(os.environ["BUNDLE"]))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer a batch of requests, each of one row."""
        asked = [
            (_input(request, "user_id").decode(), int(_input(request, "candidate_count")))
            for request in requests
        ]
        answers: list[Any] = [None] * len(requests)
        for count in {count for _, count in asked}:
            places = [place for place, ask in enumerate(asked) if ask[1] == count]
            found = self._funnel.recommend_all([asked[place][0] for place in places], count)
            for place, (ids, scores) in zip(places, found, strict=True):
                answers[place] = triton.InferenceResponse(
                    [
                        triton.Tensor("id", np.array([ids], object)),
                        triton.Tensor("score", np.array([scores], np.float32)),
                    ]
                )
        return answers


def _input(request: Any, name: str) -> Any:
    return triton.get_input_tensor_by_name(request, name).as_numpy().reshape(-1)[0]
