"""Turns what the caller wrote into the bundle's own terms, or says what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from shortlist_server.errors import (
    FeatureTypeMismatch,
    ItemNotFound,
    UnknownAttribute,
    UnknownFeature,
    UnknownItem,
)
from shortlist_server.funnel.stages import Catalog
from shortlist_server.funnel.types import (
    NO_ROWS,
    Event,
    Examples,
    FeatureValue,
    Options,
    Query,
    RequestWarning,
    ResolvedQuery,
    Rows,
    User,
    WarningReason,
)

SHOWN_MAX = 100
"""How many names or ids an error or a warning lists."""


def resolve(query: Query, options: Options, catalog: Catalog) -> ResolvedQuery:
    """Check the names and ids of a request against the bundle.

    Raises:
        ItemNotFound: none of the example items is known.
        FeatureTypeMismatch: a feature has another type than the bundle declares.
        UnknownFeature, UnknownItem, UnknownAttribute: strict was asked for.
    """
    notes = _Notes(strict=options.strict)
    user = query.subject if isinstance(query.subject, User) else User()
    known = catalog.user_features(user.id) if user.id else None
    seen = catalog.seen(user.id) if known is not None else NO_ROWS
    features = {
        **(known or {}),
        **_features("user.", user.features, "query.user.features", catalog, notes),
        **_features("context.", query.context, "query.context", catalog, notes),
    }
    history, sent_rows = _history(user.history, catalog, notes)
    example_rows = NO_ROWS
    if isinstance(query.subject, Examples):
        example_rows = _examples(query.subject, catalog, notes)
    excluded = [example_rows]
    excluded.append(rows_of(options.excluded_item_ids, catalog))
    if options.exclude_seen:
        excluded += [seen, sent_rows]
    return ResolvedQuery(
        subject=query.subject,
        user_id=user.id if known is not None else None,
        features=features,
        history_rows=sent_rows if len(user.history) else seen,
        history=history,
        example_rows=example_rows,
        excluded_rows=_union(excluded),
        attributes=_attributes(options.attributes, catalog, notes),
        warnings=tuple(notes.warnings),
    )


def rows_of(item_ids: Iterable[str], catalog: Catalog) -> Rows:
    """Return the rows of the items that are known, in order."""
    found = [row for item_id in item_ids if (row := catalog.row(item_id)) is not None]
    return np.array(found, np.int64) if found else NO_ROWS


class _Notes:
    """What was wrong so far: a warning each, or an error where the caller asked for strictness."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self.warnings: list[RequestWarning] = []

    def add(
        self,
        reason: WarningReason,
        field: str,
        subjects: Sequence[str],
        expected: str,
        error: type[UnknownFeature | UnknownItem | UnknownAttribute],
    ) -> None:
        if not subjects:
            return
        if self._strict:
            raise error(field, expected=expected, got=shown(subjects))
        self.warnings.append(RequestWarning(reason=reason, field=field, subjects=tuple(subjects)))


def shown(names: Sequence[str]) -> str:
    """Return names for a message: the first hundred."""
    more = f" and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else ""
    return ", ".join(names[:SHOWN_MAX]) + more


def _features(
    prefix: str,
    sent: Mapping[str, FeatureValue],
    field: str,
    catalog: Catalog,
    notes: _Notes,
) -> dict[str, FeatureValue]:
    types = catalog.feature_types
    checked: dict[str, FeatureValue] = {}
    unknown = []
    for name, value in sent.items():
        declared = types.get(prefix + name)
        if declared is None:
            unknown.append(name)
        elif not fits(value, declared):
            raise FeatureTypeMismatch(f'{field}["{name}"]', expected=declared, got=type_name(value))
        else:
            checked[prefix + name] = value
    if unknown:
        names = sorted(name.removeprefix(prefix) for name in types if name.startswith(prefix))
        expected = shown(names) or "none: the bundle declares no such features"
        notes.add(WarningReason.UNKNOWN_FEATURE, field, sorted(unknown), expected, UnknownFeature)
    return checked


def fits(value: FeatureValue, declared: str) -> bool:
    """Whether a value may stand where the type is declared: its own, or an integer for a double."""
    kind = type_name(value)
    return kind == declared or (kind, declared) in {
        ("int64", "double"),
        ("int64_list", "double_list"),
        ("empty_list", declared if declared.endswith("_list") else ""),
    }


def type_name(value: FeatureValue) -> str:
    """Return the name of a value's type, as the bundle would declare it."""
    # bool before int, of which it is a subclass
    for kind, name in ((str, "string"), (bool, "bool"), (int, "int64"), (float, "double")):
        if isinstance(value, kind):
            return name
    assert isinstance(value, Sequence)
    return f"{type_name(value[0])}_list" if len(value) else "empty_list"


def _history(
    events: tuple[Event, ...], catalog: Catalog, notes: _Notes
) -> tuple[tuple[Event, ...], Rows]:
    known, rows, unknown = [], [], []
    for event in events:
        row = catalog.row(event.item_id)
        if row is None:
            unknown.append(event.item_id)
        else:
            known.append(event)
            rows.append(row)
    notes.add(
        WarningReason.UNKNOWN_ITEM,
        "query.user.history",
        unknown,
        "ids of items of the bundle",
        UnknownItem,
    )
    return tuple(known), np.array(rows, np.int64) if rows else NO_ROWS


def _examples(examples: Examples, catalog: Catalog, notes: _Notes) -> Rows:
    unknown = [item_id for item_id in examples.item_ids if catalog.row(item_id) is None]
    if len(unknown) == len(examples.item_ids):
        raise ItemNotFound(examples.field, got=shown(unknown))
    notes.add(
        WarningReason.UNKNOWN_ITEM,
        examples.field,
        unknown,
        "ids of items of the bundle",
        UnknownItem,
    )
    return np.unique(rows_of(examples.item_ids, catalog))


def _attributes(wanted: tuple[str, ...], catalog: Catalog, notes: _Notes) -> tuple[str, ...]:
    names = catalog.attribute_names
    unknown = [name for name in dict.fromkeys(wanted) if name != "*" and name not in names]
    notes.add(
        WarningReason.UNKNOWN_ATTRIBUTE,
        "attributes",
        unknown,
        shown(sorted(names)) or "none: the bundle has no item attributes",
        UnknownAttribute,
    )
    if "*" in wanted:
        return tuple(names)
    return tuple(dict.fromkeys(name for name in wanted if name in names))


def _union(parts: list[Rows]) -> Rows:
    parts = [part for part in parts if len(part)]
    return np.unique(np.concatenate(parts)) if parts else NO_ROWS
