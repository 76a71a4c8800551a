"""What a bundle makes of an item that it was not built with: its cells, its vector, its feeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from shortlist_server.bundle.columns import CellValue
from shortlist_server.bundle.reader import MAGNITUDE_MAX, Bundle
from shortlist_server.catalog.item_texts import ItemTexts
from shortlist_server.errors import (
    AttributeTypeMismatch,
    DimensionMismatch,
    InvalidValue,
    ModelOutputInvalid,
    RequestError,
    ShortlistError,
)
from shortlist_server.funnel.arrays import Floats
from shortlist_server.funnel.resolve import fits, type_name
from shortlist_server.funnel.types import FeatureValue
from shortlist_server.runtime.inputs import item_columns
from shortlist_server.runtime.models import LoadedModel

Cells = Mapping[str, CellValue | None]
"""What an item holds in each column of the bundle."""

EMBEDDED_TOGETHER = 256
MadeT = TypeVar("MadeT")
FaultT = TypeVar("FaultT", bound=ShortlistError)


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedItem:
    """An item in the bundle's own terms, but for its vector."""

    item_id: str
    cells: Cells
    unknown: tuple[str, ...]
    """Names of attributes that the bundle does not declare: kept, and without effect."""
    text: str = ""
    """What it is found by in words; empty: nothing."""


class ItemSchema:
    """The item columns and the item-side models of one bundle."""

    def __init__(
        self, bundle: Bundle, models: Mapping[str, LoadedModel], texts: ItemTexts | None = None
    ) -> None:
        """Take a bundle, its models by section name, and what it makes of texts; None: nothing."""
        self.texts = texts
        self._types = {name: column.type for name, column in bundle.item_columns.items()}
        self._tower = models.get("item_tower")
        self._ranker = models.get("ranker")
        self._cosine = bundle.manifest.metric == "cosine"
        self._dimension = bundle.manifest.dimension
        self._models = [model for model in (self._tower, self._ranker) if model is not None]
        self._ranker_shapes = self._shapes_in(bundle)
        """Of one item's side of each input of the ranker."""
        self._known = {*self._types, *(() if texts is None else texts.attributes)}
        self.reads_texts = any(model.inputs.reads_texts for model in self._models)
        """Whether a model takes the points of the items' texts."""
        self.bundle_sha256 = bundle.sha256

    @property
    def embeds(self) -> bool:
        """Whether the bundle has an item tower, so that items come without a vector."""
        return self._tower is not None

    def fit(self, item_id: str, attributes: Mapping[str, FeatureValue], field: str) -> FittedItem:
        """Return an item in the bundle's terms; whether its models take it, `model_faults` tells.

        Args:
            item_id: Its id.
            attributes: Its attributes by name; columns that are not named have no value.
            field: Path of the attributes in the request.

        Raises:
            AttributeTypeMismatch: an attribute is of another type than its column.
            InvalidValue: a double cannot hold a whole number.
        """
        cells: dict[str, CellValue | None] = dict.fromkeys(self._types)
        for name, value in attributes.items():
            declared = self._types.get(name)
            if declared is None:
                continue
            if not fits(value, declared):
                raise AttributeTypeMismatch(
                    f'{field}["{name}"]',
                    expected=f"{declared}, the type of {name}",
                    got=type_name(value),
                )
            cells[name] = _cell(value, declared, f'{field}["{name}"]')
        return FittedItem(
            item_id=item_id,
            cells=cells,
            unknown=tuple(sorted(attributes.keys() - self._known)),
            text="" if self.texts is None else self.texts.text(attributes, field),
        )

    def model_faults(
        self, items: Sequence[FittedItem], fields: Sequence[str]
    ) -> list[InvalidValue | None]:
        """Return why a model cannot be fed with an item's attributes, for each item; None where all
        can.

        Args:
            items: The items.
            fields: Path of each one's attributes in the request.
        """
        # All at once costs little more than one of them, and hardly ever is there a fault.
        return _by_halves(
            len(items), lambda some: self._check_fed(items[some], fields[some.start]), InvalidValue
        )

    def vector(self, values: Floats, field: str) -> Floats:
        """Return a vector that a caller sent, at unit length where the metric is cosine.

        Raises:
            DimensionMismatch: it has not as many components as the bundle's.
            InvalidValue: a component is too large or not finite, or the vector is zero where the
                metric is cosine.
        """
        if len(values) != self._dimension:
            raise DimensionMismatch(
                field, expected=f"{self._dimension} numbers", got=f"{len(values)} numbers"
            )
        if not (np.abs(values) <= MAGNITUDE_MAX).all():  # NaN compares as false
            raise InvalidValue(
                field,
                expected=f"finite numbers of at most {MAGNITUDE_MAX:g}",
                got="others",
            )
        if not self._cosine:
            return values
        length = float(np.linalg.norm(values.astype(np.float64)))
        if not length:
            raise InvalidValue(
                field, expected="a vector that is not zero (metric cosine)", got="zeros"
            )
        unit: Floats = (values.astype(np.float64) / length).astype(np.float32)
        return unit

    def stand_ins(self, items: Sequence[FittedItem]) -> Floats:
        """Return points in place of those of the items' texts, [items, dimension of texts]: the
        same direction for each text. They show whether the item tower takes an item, and cost
        nothing.
        """
        points = self._zeros(len(items))
        if self.reads_texts:
            points[[bool(item.text) for item in items]] = points.shape[1] ** -0.5
        return points

    def embed(self, items: Sequence[FittedItem], texts: Floats, field: str = "items") -> Floats:
        """Return what the item tower makes of items, float32 [items, dimension].

        Args:
            items: The items.
            texts: Points of their texts, [items, dimension of texts]: zeros where one has none.
            field: Path of their attributes in the request.

        Raises:
            InvalidValue: the tower does not take an attribute.
            ModelOutputInvalid: it gives numbers that are no vector.
        """
        assert self._tower is not None
        tower = self._tower
        output = tower.session.declared.outputs[0].name
        parts = []
        for start in range(0, len(items), EMBEDDED_TOGETHER):
            some = slice(start, start + EMBEDDED_TOGETHER)
            feeds = self._feeds(tower, items[some], texts[some], field)
            try:
                parts.append(tower.session.run(feeds)[output])
            except Exception as error:  # onnxruntime's exceptions share no base class
                raise InvalidValue(
                    field, expected="attributes that the item tower takes", got=str(error)
                ) from error
        vectors: Floats = np.concatenate(parts).astype(np.float32, copy=False)
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        if not (np.abs(vectors) <= MAGNITUDE_MAX).all() or (self._cosine and not lengths.all()):
            raise ModelOutputInvalid(
                f"item_tower.{output}: expected finite numbers that make a direction, got others"
            )
        if self._cosine:
            vectors = (vectors / lengths[:, np.newaxis]).astype(np.float32)
        return vectors

    def embed_each(
        self, items: Sequence[FittedItem], texts: Floats, fields: Sequence[str]
    ) -> list[Floats | ShortlistError]:
        """Return what the item tower makes of each item, [dimension], or why it makes nothing of
        it: where it fails for some of many, it is found out for which.

        Args:
            items: The items.
            texts: Points of their texts, as for `embed`.
            fields: Path of each one's attributes in the request.
        """
        return _by_halves(
            len(items),
            lambda some: self.embed(items[some], texts[some], fields[some.start]),
            ShortlistError,
        )

    def ranker_feeds(self, items: Sequence[FittedItem], texts: Floats) -> dict[str, NDArray[Any]]:
        """Return the ranker's item-side inputs, [items, ...] each; empty without a ranker.

        Args:
            items: The items.
            texts: Points of their texts, as for `embed`.
        """
        return {} if self._ranker is None else self._feeds(self._ranker, items, texts, "items")

    def _check_fed(self, items: Sequence[FittedItem], field: str) -> list[None]:
        """Check that the models can be fed with items; returns nothing for each.

        Raises:
            InvalidValue: a model cannot be fed with an attribute.
        """
        for model in self._models:
            feeds = self._feeds(model, items, self._zeros(len(items)), field)
            if model is self._ranker:
                self._check_shapes(feeds, field)
        return [None] * len(items)

    def _shapes_in(self, bundle: Bundle) -> dict[str, tuple[int, ...]]:
        if self._ranker is None:
            return {}
        cells = {name: column[0] for name, column in bundle.item_columns.items()}
        first = FittedItem(item_id=bundle.item_ids[0], cells=cells, unknown=())
        feeds = self._feeds(self._ranker, [first], self._zeros(1), "items")
        return {name: values.shape[1:] for name, values in feeds.items()}

    def _check_shapes(self, feeds: Mapping[str, NDArray[Any]], field: str) -> None:
        # Of an input that takes lists as long as they come, those of all candidates are one array.
        for name, values in feeds.items():
            if values.shape[1:] != self._ranker_shapes[name]:
                raise InvalidValue(
                    field,
                    expected=f"as many elements for the ranker's input {name!r} as the bundle's "
                    f"items have, {list(self._ranker_shapes[name])}",
                    got=f"{list(values.shape[1:])}",
                )

    def _zeros(self, count: int) -> Floats:
        return np.zeros((count, 0 if self.texts is None else self.texts.dimension), np.float32)

    def _feeds(
        self, model: LoadedModel, items: Sequence[FittedItem], texts: Floats, field: str
    ) -> dict[str, NDArray[Any]]:
        wanted = model.inputs.item_sources
        cells = {
            name: [item.cells[name] for item in items]
            for name in self._types
            if f"item.{name}" in wanted
        }
        ids = [item.item_id for item in items]
        file = model.session.declared.file
        try:
            return model.inputs.item_feeds(item_columns(wanted, ids, cells, file), texts)
        except RequestError as error:
            raise InvalidValue(field, expected=error.expected, got=error.got) from error


def _by_halves(
    count: int, make: Callable[[slice], Iterable[MadeT]], fault: type[FaultT]
) -> list[MadeT | FaultT]:
    """Return what is made of each of many, or why nothing is: where it fails for all together, it
    is found out for which.

    Args:
        count: How many there are.
        make: Makes something of each of some.
        fault: How it fails.
    """

    def made_of(some: slice) -> list[MadeT | FaultT]:
        try:
            return list(make(some))
        except fault as error:
            if some.stop - some.start == 1:
                return [error]
        middle = (some.start + some.stop) // 2
        return [*made_of(slice(some.start, middle)), *made_of(slice(middle, some.stop))]

    return made_of(slice(0, count)) if count else []


def _cell(value: FeatureValue, declared: str, field: str) -> CellValue:
    """Return a value as its column holds it."""
    if declared.endswith("_list"):
        assert not isinstance(value, (str, int, float))
        one = declared.removesuffix("_list")
        return cast(CellValue, tuple(_cell(part, one, field) for part in value))
    assert isinstance(value, (str, int, float))
    if declared != "double" or isinstance(value, float):
        return value
    number = float(value)
    if int(number) != value:
        raise InvalidValue(field, expected="a whole number that a double can hold", got=str(value))
    return number
