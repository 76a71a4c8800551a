"""Turns what the caller wrote into the bundle's own terms, or says what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from shortlist_server.errors import (
    ExcludedItemRequested,
    FeatureTypeMismatch,
    InvalidValue,
    ItemNotFound,
    UnknownAttribute,
    UnknownFeature,
    UnknownItem,
    UnknownSource,
)
from shortlist_server.funnel.allowed import Allowed
from shortlist_server.funnel.arrays import NO_ROWS, Rows
from shortlist_server.funnel.options import Named, Nearest, Options, Popular, SourceOptions, Text
from shortlist_server.funnel.stages import Catalog
from shortlist_server.funnel.types import (
    Event,
    Examples,
    FeatureValue,
    Query,
    RequestWarning,
    ResolvedQuery,
    User,
    WarningReason,
)

SHOWN_MAX = 100
"""How many names or ids an error or a warning lists."""
TEXT_CANDIDATES = 50
"""Most candidates of the source of a text, where the request names no sources and no larger
`limit`.
"""


def resolve(
    query: Query,
    options: Options,
    catalog: Catalog,
    configured: Sequence[SourceOptions] = (SourceOptions(settings=Nearest()),),
    *,
    has_texts: bool = False,
) -> ResolvedQuery:
    """Check the names and ids of a request against the bundle.

    Args:
        query: What is asked for.
        options: What the caller chose.
        catalog: The bundle's items, users and names.
        configured: The bundle's own sources.
        has_texts: Whether its items can be found by their texts.

    Raises:
        InvalidValue: a text is searched for, or a source searches texts, and there are none.
        ItemNotFound: none of the example items is known.
        FeatureTypeMismatch: a feature has another type than the bundle declares.
        UnknownAttribute, AttributeTypeMismatch: a filter or a cap does not fit the item attributes.
        UnknownSource: a source is named that the bundle does not configure.
        ExcludedItemRequested: an item is both pinned and excluded by id.
        UnknownFeature, UnknownItem, UnknownAttribute: strict was asked for.
    """
    notes = Notes(strict=options.strict)
    if not has_texts:
        _refuse_texts(query, options)
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
    excluded = [example_rows, catalog.rows(options.excluded_item_ids)]
    if options.exclude_seen:
        excluded += [seen, sent_rows]
    allowed = Allowed(
        catalog.row_count,
        catalog.select(options.filter, options.excluded_filter),
        _union(excluded, catalog.row_count),
        catalog.alive,
    )
    for position, cap in enumerate(options.selection.caps):
        catalog.check_attribute(cap.attribute, f"selection.caps[{position}].attribute")
    return ResolvedQuery(
        subject=query.subject,
        user_id=user.id if known is not None else None,
        features=features,
        history_rows=sent_rows if len(user.history) else seen,
        history=history,
        example_rows=example_rows,
        allowed=allowed,
        sources=resolve_sources(query, options, configured, catalog, notes),
        pins=_pins(options, allowed, catalog, notes),
        attributes=_attributes(options.attributes, catalog, notes),
        warnings=tuple(notes.warnings),
        text=query.text,
    )


def _refuse_texts(query: Query, options: Options) -> None:
    why = "the bundle has no text embeddings (section `texts`)"
    if query.text:
        raise InvalidValue("query.text", expected=f"none: {why}", got="a text")
    for source in options.sources:
        if isinstance(source.settings, Text):
            raise InvalidValue(source.settings.field, expected=f"another: {why}", got="text")


def default_sources(
    query: Query, options: Options, configured: Sequence[SourceOptions]
) -> tuple[SourceOptions, ...]:
    """Return the sources of a request that names none: the bundle's own list; for a text, what is
    near it alone, unless that list searches texts, too.
    """
    if not query.text or any(isinstance(source.settings, Text) for source in configured):
        return tuple(configured)
    # What ranks them does not read the text: of many, those that are far from it would come first.
    count = min(options.candidate_count, max(options.limit, TEXT_CANDIDATES))
    return (SourceOptions(settings=Text(), candidate_count=count),)


def resolve_sources(
    query: Query,
    options: Options,
    configured: Sequence[SourceOptions],
    catalog: Catalog,
    notes: Notes,
) -> tuple[SourceOptions, ...]:
    """Return the sources to ask, each with its settings."""
    if not options.sources:
        return default_sources(query, options, configured)
    by_name = {source.name or source.kind: source for source in configured}
    resolved = []
    for position, source in enumerate(options.sources):
        settings = source.settings
        count = source.candidate_count
        if settings is None:
            if (own := by_name.get(source.name)) is None:
                raise UnknownSource(
                    f"sources[{position}].name", expected=shown(sorted(by_name)), got=source.name
                )
            settings, count = own.settings, count or own.candidate_count
        if isinstance(settings, Popular) and settings.attribute:
            catalog.check_attribute(settings.attribute, f"sources[{position}].popularity.attribute")
        if isinstance(settings, Named):
            field = f"sources[{position}].caller.item_ids"
            unknown = [item for item in settings.item_ids if catalog.row(item) is None]
            notes.unknown_items(field, unknown)
        resolved.append(replace(source, settings=settings, candidate_count=count))
    return tuple(resolved)


def _pins(
    options: Options, allowed: Allowed, catalog: Catalog, notes: Notes
) -> tuple[tuple[int, int | None], ...]:
    """Return row and place of the pinned items that may be in the answer."""
    pins = options.selection.pins
    if not pins:
        return ()
    excluded = set(options.excluded_item_ids)
    if both := [pin.item_id for pin in pins if pin.item_id in excluded]:
        raise ExcludedItemRequested(
            "selection.pinned_items",
            expected="none of exclusions.item_ids",
            got=shown(both),
        )
    known = [pin for pin in pins if catalog.row(pin.item_id) is not None]
    notes.unknown_items("selection.pinned_items", [pin.item_id for pin in pins if pin not in known])
    rows = catalog.rows([pin.item_id for pin in known])
    kept = allowed.among(rows).tolist()
    notes.add(
        WarningReason.PINNED_ITEM_LEFT_OUT,
        "selection.pinned_items",
        [pin.item_id for pin, may in zip(known, kept, strict=True) if not may],
    )
    return tuple(
        (row, pin.position) for row, pin, may in zip(rows.tolist(), known, kept, strict=True) if may
    )


class Notes:
    """What was wrong so far: a warning each, or an error where the caller asked for strictness."""

    def __init__(self, *, strict: bool) -> None:
        """Begin with nothing wrong."""
        self._strict = strict
        self.warnings: list[RequestWarning] = []

    def add(self, reason: WarningReason, field: str, subjects: Sequence[str]) -> None:
        """Note what is a warning also where strictness was asked for."""
        if subjects:
            self.warnings.append(
                RequestWarning(reason=reason, field=field, subjects=tuple(subjects))
            )

    def unknown(
        self,
        reason: WarningReason,
        field: str,
        subjects: Sequence[str],
        expected: str,
        error: type[UnknownFeature | UnknownItem | UnknownAttribute],
    ) -> None:
        """Note names that the bundle does not know."""
        if subjects and self._strict:
            raise error(field, expected=expected, got=shown(subjects))
        self.add(reason, field, subjects)

    def unknown_items(self, field: str, item_ids: Sequence[str]) -> None:
        """Note ids of items that the bundle does not have."""
        self.unknown(
            WarningReason.UNKNOWN_ITEM, field, item_ids, "ids of items of the bundle", UnknownItem
        )


def shown(names: Sequence[str]) -> str:
    """Return names for a message: the first hundred."""
    more = f" and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else ""
    return ", ".join(names[:SHOWN_MAX]) + more


def _features(
    prefix: str,
    sent: Mapping[str, FeatureValue],
    field: str,
    catalog: Catalog,
    notes: Notes,
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
        reason = WarningReason.UNKNOWN_FEATURE
        notes.unknown(reason, field, sorted(unknown), expected, UnknownFeature)
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
    events: tuple[Event, ...], catalog: Catalog, notes: Notes
) -> tuple[tuple[Event, ...], Rows]:
    known, rows, unknown = [], [], []
    for event in events:
        row = catalog.row(event.item_id)
        if row is None:
            unknown.append(event.item_id)
        else:
            known.append(event)
            rows.append(row)
    notes.unknown_items("query.user.history", unknown)
    return tuple(known), np.array(rows, np.int64) if rows else NO_ROWS


def _examples(examples: Examples, catalog: Catalog, notes: Notes) -> Rows:
    unknown = [item_id for item_id in examples.item_ids if catalog.row(item_id) is None]
    if len(unknown) == len(examples.item_ids):
        raise ItemNotFound(examples.field, got=shown(unknown))
    notes.unknown_items(examples.field, unknown)
    return np.unique(catalog.rows(examples.item_ids))


def _attributes(wanted: tuple[str, ...], catalog: Catalog, notes: Notes) -> tuple[str, ...]:
    names = catalog.attribute_names
    unknown = [name for name in dict.fromkeys(wanted) if name != "*" and name not in names]
    notes.unknown(
        WarningReason.UNKNOWN_ATTRIBUTE,
        "attributes",
        unknown,
        shown(sorted(names)) or "none: the bundle has no item attributes",
        UnknownAttribute,
    )
    if "*" in wanted:
        return tuple(names)
    return tuple(dict.fromkeys(name for name in wanted if name in names))


def _union(parts: list[Rows], size: int) -> Rows:
    """Return the rows of all parts of a catalogue of so many items, rising, each once."""
    rows = np.concatenate(parts)
    if len(rows) * 64 < size:
        return np.unique(rows)
    # For many it takes a tenth of the time to mark them.
    marked = np.zeros(size, np.bool_)
    marked[rows] = True
    return np.flatnonzero(marked)
