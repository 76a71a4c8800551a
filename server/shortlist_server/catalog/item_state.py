"""What callers said of an item, as it is kept: independent of any bundle."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from shortlist_server.funnel.arrays import Floats
from shortlist_server.funnel.types import FeatureValue


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemState:
    """An item as it was last written. What a bundle makes of it is derived, and not kept."""

    attributes: Mapping[str, FeatureValue]
    """By name, those that no bundle knows yet among them."""
    vector: Floats | None = None
    """[dimension] float32; None where the bundle's item tower embeds the attributes."""
    vector_bundle: str = ""
    """SHA-256 of the bundle in whose space the vector lies. Empty where there is none."""

    def encode(self) -> bytes:
        """Return it as JSON, which keeps whole numbers, numbers and truth values apart."""
        document: dict[str, Any] = {"attributes": dict(self.attributes)}
        if self.vector is not None:
            vector = self.vector.astype("<f4").tobytes()
            document["vector"] = base64.b64encode(vector).decode("ascii")
            document["vector_bundle"] = self.vector_bundle
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode()

    @classmethod
    def decode(cls, data: bytes) -> ItemState:
        """Return what was encoded.

        Raises:
            ValueError: the bytes are something else.
        """
        try:
            document = json.loads(data)
            vector = document.get("vector")
            return cls(
                attributes=dict(document["attributes"]),
                vector=None
                if vector is None
                else np.frombuffer(base64.b64decode(vector, validate=True), "<f4"),
                vector_bundle=str(document.get("vector_bundle", "")),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"expected an item as it is kept, got {data[:80]!r}") from error
