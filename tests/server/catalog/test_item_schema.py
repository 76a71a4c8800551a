"""What a bundle makes of items: where the item tower fails for some, it fails for those alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from changing_world import first_items, loaded, world_of
from shortlist_server.catalog.item_schema import FittedItem, ItemSchema
from shortlist_server.errors import ModelOutputInvalid, ShortlistError
from shortlist_server.funnel.arrays import Floats


class Choosy(ItemSchema):
    """The real tower, which makes nothing of some items."""

    def embed(self, items: Sequence[FittedItem], texts: Floats, field: str = "items") -> Floats:
        if refused := [item.item_id for item in items if item.item_id.startswith("bad")]:
            raise ModelOutputInvalid(f"{field}: {refused}")
        return super().embed(items, texts, field)


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Choosy:
    generation = loaded(world_of(tmp_path_factory.mktemp("tower"), first_items(), tower=True))
    return Choosy(generation.bundle, generation.models)


@pytest.mark.parametrize(
    "ids",
    [[], ["a"], ["bad"], ["a", "bad1", "b", "c", "bad2"], ["bad1", "bad2", "a"], ["a", "b", "c"]],
)
def test_each_item_gets_its_vector_or_its_own_error(schema: Choosy, ids: list[str]) -> None:
    fitted = [
        schema.fit(one, {"year": 1990 + place}, "attributes") for place, one in enumerate(ids)
    ]
    texts = schema.stand_ins(fitted)
    made = schema.embed_each(fitted, texts, [f"items[{place}]" for place in range(len(ids))])
    assert len(made) == len(ids)
    for place, (one, vector) in enumerate(zip(fitted, made, strict=True)):
        if one.item_id.startswith("bad"):
            assert isinstance(vector, ShortlistError)
            assert str(vector) == f"items[{place}]: ['{one.item_id}']"
        else:
            assert not isinstance(vector, ShortlistError)
            assert np.allclose(vector, ItemSchema.embed(schema, [one], texts[:1])[0], atol=1e-6)
