"""Random valid requests to a `random_world.World`, as hypothesis strategies."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from random_world import ATTRIBUTES, COLORS, OUTPUTS, VALUES, World
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types

SCALARS = [name for name, kind in ATTRIBUTES.items() if not kind.endswith("_list")]
LISTS = [name for name in ATTRIBUTES if name not in SCALARS]
USERS = ("u0", "u1", "u2", "u3", "u4", "u9", "nobody", "")
NUMBERS: dict[str, st.SearchStrategy[Any]] = {
    "string": st.sampled_from((*COLORS, "zebra", "gr")),
    "int64": st.sampled_from((*VALUES["int64"], 7, -(2**63), 2**63 - 1)),
    "double": st.sampled_from((*VALUES["double"], -0.0, 0.25, -1e300, 3)),
    "bool": st.booleans(),
}
"""Values of conditions: those of the items, and others; an integer for a double, too."""


def value(held: Any) -> types.Value:
    """A Value that holds one Python value."""
    if isinstance(held, bool):
        return types.Value(bool_value=held)
    if isinstance(held, str):
        return types.Value(string_value=held)
    return (
        types.Value(int64_value=held) if isinstance(held, int) else types.Value(double_value=held)
    )


def _element(attribute: str) -> st.SearchStrategy[Any]:
    return NUMBERS[ATTRIBUTES[attribute].removesuffix("_list")]


@st.composite
def _condition(draw: st.DrawFn) -> types.Filter:
    kind = draw(st.sampled_from(("equals", "is_in", "range", "contains", "exists")))
    if kind == "exists":
        name = draw(st.sampled_from(list(ATTRIBUTES)))
        return types.Filter(exists=types.ExistsCondition(attribute=name))
    if kind == "contains":
        name = draw(st.sampled_from(LISTS))
        held = value(draw(_element(name)))
        return types.Filter(contains=types.ContainsCondition(attribute=name, value=held))
    if kind == "range":
        name = draw(st.sampled_from([name for name in SCALARS if name != "fresh"]))
        low = draw(st.sampled_from(("", "at_least", "above")))
        high = draw(st.sampled_from(("at_most", "below") if not low else ("", "at_most", "below")))
        bounds = {side: value(draw(_element(name))) for side in (low, high) if side}
        return types.Filter(range=types.RangeCondition(attribute=name, **bounds))  # type: ignore[arg-type]
    name = draw(st.sampled_from(SCALARS))
    if kind == "equals":
        held = value(draw(_element(name)))
        return types.Filter(equals=types.EqualsCondition(attribute=name, value=held))
    several = draw(st.lists(_element(name), min_size=1, max_size=4))
    kinds = {
        "string": ("string_list", types.StringList),
        "int64": ("int64_list", types.Int64List),
        "double": ("double_list", types.DoubleList),
        "bool": ("bool_list", types.BoolList),
    }
    field, make = kinds[ATTRIBUTES[name]]
    held = types.Value(**{field: make(values=several)})  # type: ignore[arg-type, operator]
    return types.Filter(is_in=types.InCondition(attribute=name, values=held))


def _joined(parts: st.SearchStrategy[types.Filter]) -> st.SearchStrategy[types.Filter]:
    return st.builds(
        lambda kind, filters: types.Filter(**{kind: types.FilterList(filters=filters)}),
        st.sampled_from(("all_of", "any_of", "none_of")),
        st.lists(parts, min_size=1, max_size=3),
    )


FILTERS: st.SearchStrategy[types.Filter] = st.recursive(_condition(), _joined, max_leaves=6)
WIDE_FILTERS = st.one_of(
    st.sampled_from(
        [
            types.Filter(exists=types.ExistsCondition(attribute="color")),
            types.Filter(range=types.RangeCondition(attribute="grade", at_least=value(-1))),
        ]
    ),
    FILTERS,
)


@st.composite
def requests(draw: st.DrawFn, world: World, *, selection: bool = True) -> pb.RecommendRequest:
    """A request that is to be answered, with any of the options there are."""
    sometimes = st.integers(0, 2).map(lambda number: number == 0)
    limit = draw(st.sampled_from((0, 1, 2, 3, 5, 10, 50, 500)))
    request = pb.RecommendRequest(query=_query(draw, world), limit=limit)
    least = limit or 20
    if draw(sometimes):
        request.retrieval.candidate_count = draw(st.sampled_from((least, least + 3, 300 + least)))
    if draw(st.booleans()):
        request.filter.CopyFrom(draw(WIDE_FILTERS))
    if draw(sometimes):
        request.exclusions.item_ids.extend(
            draw(st.lists(_ids(world), max_size=draw(st.sampled_from((3, world.size)))))
        )
    if draw(sometimes):
        request.exclusions.seen = draw(st.booleans())
    if draw(sometimes):
        request.exclusions.filter.CopyFrom(draw(_condition()))
    if draw(st.booleans()):
        _add_sources(draw, world, request)
    if world.has_ranker and draw(sometimes):
        for name in draw(st.lists(st.sampled_from(OUTPUTS), min_size=1, unique=True)):
            request.output_weights[name] = draw(st.sampled_from((-1.0, 0.0, 0.25, 2.0)))
    if selection:
        _fill_selection(draw, world, request, least)
    return request


def _ids(world: World) -> st.SearchStrategy[str]:
    return st.integers(0, world.size).map(lambda row: f"i{row}")


def _query(draw: st.DrawFn, world: World) -> types.Query:
    kind = draw(st.sampled_from(("user", "user", "user", "items", "embedding")))
    counts = (1,) if world.metric == "cosine" else (1, 2, 4)
    known = st.integers(0, world.size - 1)
    fitting = [count for count in counts if count <= world.size]
    if kind == "embedding":
        signs = st.sampled_from((-2.0, 2.0) if world.metric == "cosine" else (-2.0, 0.0, 1.0))
        return types.Query(embedding=types.Embedding(values=[draw(signs) for _ in range(4)]))
    if kind == "items":
        count = draw(st.sampled_from(fitting))
        rows = draw(st.lists(known, min_size=count, max_size=count, unique=True))
        return types.Query(items=types.ItemsQuery(item_ids=[f"i{row}" for row in rows] + ["x"]))
    user = types.UserQuery(id=draw(st.sampled_from(USERS)))
    if draw(st.booleans()):
        user.features["mood"].CopyFrom(value(draw(st.integers(-2, 2))))
    if draw(st.booleans()):
        user.features["likes"].CopyFrom(value(draw(st.sampled_from(COLORS))))
    if draw(st.booleans()):
        rows = draw(st.lists(known, min_size=1, max_size=1))
        if draw(st.booleans()):
            count = draw(st.sampled_from(counts))
            rows = draw(st.lists(known, min_size=count, max_size=count))
        names = [f"i{row}" for row in rows] + ["x"] * draw(st.integers(0, 1))
        user.history.extend(types.HistoryEvent(item_id=name) for name in names)
    return types.Query(user=user)


def _add_sources(draw: st.DrawFn, world: World, request: pb.RecommendRequest) -> None:
    kinds = draw(
        st.lists(
            st.sampled_from(("nearest", "recent_history", "popularity", "likes", "tags", "caller")),
            min_size=1,
            max_size=4,
            unique=True,
        )
    )
    for kind in kinds:
        source = request.sources.add(candidate_count=draw(st.sampled_from((0, 1, 4, 30))))
        if kind == "nearest":
            source.nearest.SetInParent()
        elif kind == "recent_history":
            source.recent_history.event_count = draw(
                st.sampled_from((1,) if world.metric == "cosine" else (0, 1, 2, 4))
            )
        elif kind == "caller":
            source.caller.item_ids.extend(draw(st.lists(_ids(world), min_size=1, max_size=12)))
        else:
            source.popularity.SetInParent()
            source.name = "" if kind == "popularity" else kind
            if kind == "likes":
                source.popularity.attribute = "color"
                source.popularity.feature = "user.likes"
            elif kind == "tags":
                source.popularity.attribute = "years"
                source.popularity.value.int64_value = draw(st.integers(-2, 3))
    if draw(st.booleans()):
        request.sources[0].name = "mine"


def _fill_selection(
    draw: st.DrawFn, world: World, request: pb.RecommendRequest, limit: int
) -> None:
    sometimes = st.integers(0, 2).map(lambda number: number == 0)
    selection = request.selection
    if draw(sometimes):
        selection.score_min = draw(st.sampled_from((-1e6, -4.0, -1.0, 0.0, 0.5, 2.0)))
    if draw(sometimes):
        selection.diversity = draw(st.sampled_from((0.0, 0.1, 0.5, 0.9, 1.0)))
    if draw(sometimes):
        for name in draw(st.lists(st.sampled_from(list(ATTRIBUTES)), min_size=1, max_size=2)):
            selection.caps.add(attribute=name, item_count_max=draw(st.integers(1, 4)))
    if draw(sometimes):
        names = draw(st.lists(_ids(world), max_size=min(4, limit), unique=True))
        kept = [name for name in names if name not in request.exclusions.item_ids]
        places = draw(st.permutations(range(min(limit, 12))))
        for name, place in zip(kept, places, strict=False):
            pin = selection.pinned_items.add(item_id=name)
            if draw(st.booleans()):
                pin.position = place
    if draw(sometimes):
        selection.exploration.temperature = draw(st.sampled_from((1e-6, 0.5, 4.0)))
        selection.exploration.seed = draw(st.sampled_from((0, 7, -1, 2**63 - 1)))
