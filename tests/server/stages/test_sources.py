"""Sources as bundles configure them and as requests name them; popularity of attribute values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_world
from altered_funnel import altered
from shortlist_exporters.errors import ExportError
from shortlist_exporters.export import export_bundle
from shortlist_server.errors import AttributeTypeMismatch, InvalidValue, UnknownSource
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.options import (
    Named,
    Nearest,
    Options,
    Popular,
    RecentHistory,
    SourceOptions,
)
from shortlist_server.funnel.types import Answer, Event, Query, User
from shortlist_server.generation import Generation, load_generation

FEATURES = [
    *tiny_world.FEATURES,
    {"name": "user.genres", "type": "string_list", "default": []},
    {"name": "user.genre", "type": "string", "default": ""},
    {"name": "context.year", "type": "int64", "default": 0},
]
SOURCES = [
    {"kind": "nearest", "candidate_count": 6},
    {"name": "trending", "kind": "popularity", "candidate_count": 4},
    {"kind": "recent_history", "event_count": 2},
    {"name": "dramas", "kind": "popularity", "attribute": "genres", "value": "Drama"},
    {"name": "mine", "kind": "popularity", "attribute": "genres", "feature": "user.genres"},
    {"name": "of_1985", "kind": "popularity", "attribute": "year", "value": 1985},
    {"name": "years", "kind": "popularity", "attribute": "year", "feature": "context.year"},
]


def made(folder: Path, **changes: Any) -> Generation:
    export_bundle(tiny_world.write_spec(folder / "spec", **changes), folder / "bundle")
    return load_generation(folder / "bundle")


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Generation:
    """The tiny world with sources of its own."""
    return made(tmp_path_factory.mktemp("sources"), features=FEATURES, sources=SOURCES)


def retrieve(
    generation: Generation,
    user: User | None = None,
    context: dict[str, Any] | None = None,
    **options: Any,
) -> Answer:
    query = Query(subject=user or User(id="u1"), context=context or {})
    return generation.funnel.retrieve(query, Options(**{"limit": 4_096, **options}), Budget(100))


def reports(answer: Answer) -> dict[str, tuple[str, int]]:
    return {report.name: (report.outcome.value, report.item_count) for report in answer.sources}


def rows_of(answer: Answer, source: str) -> list[int]:
    """The rows that a source gave, best first."""
    positions = {
        position: row
        for row, where in zip(answer.items.rows.tolist(), answer.items.sources, strict=True)
        for name, position in where
        if name == source
    }
    return [positions[position] for position in range(len(positions))]


def popular(generation: Generation, keep: Any) -> list[int]:
    """The rows that are kept, most popular first, those that nobody used last."""
    assert generation.bundle.popularity is not None
    listed = generation.bundle.popularity.rows.tolist()
    rest = [row for row in range(tiny_world.ITEM_COUNT) if row not in listed]
    return [row for row in listed + rest if keep(row)]


def genres(generation: Generation, row: int) -> Any:
    return generation.catalog.attribute("genres", row)


def test_requests_that_name_no_sources_get_those_of_the_bundle_in_its_order(
    configured: Generation,
) -> None:
    answer = retrieve(configured, User(id="u1", features={"genres": ["Horror", "Comedy"]}))
    assert list(reports(answer)) == [
        "two_tower", "trending", "recent_history", "dramas", "mine", "of_1985", "years",
    ]  # fmt: skip
    assert reports(answer)["two_tower"] == ("OK", 6)
    assert reports(answer)["trending"] == ("OK", 4)
    assert reports(answer)["years"] == ("SKIPPED", 0)
    seen = set(configured.catalog.seen("u1").tolist())
    assert rows_of(answer, "trending") == popular(configured, lambda row: row not in seen)[:4]
    assert rows_of(answer, "dramas") == popular(
        configured, lambda row: row not in seen and "Drama" in genres(configured, row)
    )
    assert rows_of(answer, "mine") == popular(
        configured,
        lambda row: row not in seen and {"Horror", "Comedy"} & set(genres(configured, row)),
    )
    assert set(rows_of(answer, "of_1985")) == {5, 45} - seen


def test_a_request_names_configured_sources_and_may_ask_for_another_number(
    configured: Generation,
) -> None:
    sources = (SourceOptions(name="dramas", candidate_count=2), SourceOptions(name="trending"))
    answer = retrieve(configured, sources=sources)
    assert reports(answer) == {"dramas": ("OK", 2), "trending": ("OK", 4)}
    by_kind = retrieve(configured, sources=(SourceOptions(name="recent_history"),))
    assert by_kind.sources[0].plan.startswith("last 2 events: ")


def test_a_request_may_describe_a_source_under_a_configured_name(configured: Generation) -> None:
    own = SourceOptions(name="trending", settings=Named(item_ids=("i3",)))
    answer = retrieve(configured, sources=(own,), exclude_seen=False)
    assert reports(answer) == {"trending": ("OK", 1)}
    assert answer.sources[0].kind == "caller"


def test_a_source_that_is_not_configured_is_unknown(configured: Generation) -> None:
    with pytest.raises(UnknownSource) as caught:
        retrieve(configured, sources=(SourceOptions(name="trendy"),))
    assert caught.value.expected == (
        "dramas, mine, nearest, of_1985, recent_history, trending, years"
    )


def test_a_name_that_is_only_known_once_the_query_is_encoded_is_checked_too(
    configured: Generation,
) -> None:
    sources = (
        SourceOptions(settings=Nearest()),
        SourceOptions(name="two_tower", settings=Popular()),
    )
    with pytest.raises(InvalidValue) as caught:
        retrieve(configured, sources=sources)
    assert caught.value.field == "sources[1].name"
    # Answered from the history, it is no name twice.
    nobody = User(history=(Event(item_id="i3"),))
    assert list(reports(retrieve(configured, nobody, sources=sources))) == ["history", "two_tower"]


@pytest.mark.parametrize(
    ("features", "context", "wanted"),
    [
        ({"genres": ["Drama"]}, {}, {"mine"}),
        ({"genres": []}, {}, {"mine"}),
        ({}, {"year": 1985}, {"years"}),
        ({}, {}, set()),
    ],
)
def test_popularity_of_a_feature_is_asked_where_the_feature_is_known(
    configured: Generation, features: dict[str, Any], context: dict[str, Any], wanted: set[str]
) -> None:
    sources = tuple(SourceOptions(name=name) for name in ("mine", "years", "trending"))
    answer = retrieve(configured, User(id="u1", features=features), context, sources=sources)
    answered = {name for name, (outcome, _) in reports(answer).items() if outcome == "OK"}
    assert answered == {"trending", *wanted}
    skipped = [report for report in answer.sources if report.outcome.value == "SKIPPED"]
    assert all(report.plan.startswith("nothing is known of ") for report in skipped)
    if features == {"genres": []}:
        assert reports(answer)["mine"] == ("OK", 0)
    if context:
        assert set(rows_of(answer, "years")) == {5, 45} - set(
            configured.catalog.seen("u1").tolist()
        )


def test_a_feature_that_the_bundle_knows_of_the_user_serves_too(tmp_path: Path) -> None:
    source = {"kind": "popularity", "attribute": "genres", "feature": "user.segment"}
    spec = tiny_world.write_spec(tmp_path / "spec", sources=[source])
    users = [f"u{row},{20.5 + row},{tiny_world.GENRES[row % 3]}" for row in range(12)]
    (tmp_path / "spec/users.csv").write_text("\n".join(["id,age,segment", *users, ""]))
    export_bundle(spec, tmp_path / "bundle")
    generation = load_generation(tmp_path / "bundle")
    for row in (1, 2):
        answer = retrieve(generation, User(id=f"u{row}"), exclude_seen=False)
        genre = tiny_world.GENRES[row % 3]
        expected = popular(generation, lambda item, g=genre: g in genres(generation, item))  # type: ignore[misc]
        assert rows_of(answer, "popularity") == expected
        assert answer.sources[0].plan == f"popularity among genres = {genre}"


def test_where_all_sources_are_skipped_popularity_answers_under_a_name_that_is_free(
    configured: Generation,
) -> None:
    nobody = User(id="nobody")
    mine = SourceOptions(name="mine")
    answer = retrieve(configured, nobody, sources=(mine, SourceOptions(settings=Nearest())))
    assert reports(answer) == {
        "mine": ("SKIPPED", 0),
        "nearest": ("SKIPPED", 0),
        "popularity": ("OK", 60),
    }
    # Of the sources that do not apply the numbers do not count.
    few = SourceOptions(name="mine", candidate_count=2)
    assert len(retrieve(configured, nobody, sources=(few,), limit=0).items.rows) == 60
    taken = SourceOptions(
        name="popularity", settings=Popular(attribute="genres", feature="user.genres")
    )
    answer = retrieve(configured, nobody, sources=(taken,))
    assert reports(answer) == {"popularity": ("SKIPPED", 0), "popularity_overall": ("OK", 60)}


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ({"kind": "caller"}, "kind"),
        ({"attribute": "genres"}, "expected attribute with value or feature"),
        ({"value": "x"}, "expected attribute with value or feature"),
        (
            {"attribute": "genres", "value": "x", "feature": "user.segment"},
            "expected attribute with value or feature",
        ),
        ({"attribute": "genre", "value": "x"}, "'genre' is no item column"),
        ({"attribute": "genres", "feature": "user.x"}, "'user.x' is no declared feature"),
        ({"attribute": "year", "value": "1985"}, "expected int64, the type of year, got string"),
        ({"attribute": "year", "value": 1985.0}, "expected int64, the type of year, got double"),
        ({"attribute": "genres", "feature": "user.age"}, "expected string"),
        ({"kind": "nearest", "attribute": "genres"}, "expected no attribute"),
        ({"kind": "nearest", "candidate_count": 4_097}, "candidate_count"),
        ({"kind": "recent_history", "event_count": 0}, "event_count"),
        ({"name": "popularity"}, "a name for each source"),
    ],
)
def test_sources_that_cannot_be_are_refused_when_the_bundle_is_made(
    tmp_path: Path, source: dict[str, Any], word: str
) -> None:
    sources = [{"kind": "popularity"}, {"name": "second", "kind": "popularity"} | source]
    with pytest.raises(ExportError) as caught:
        made(tmp_path, sources=sources)
    assert [path.name for path in tmp_path.iterdir()] == ["spec"]
    assert word in str(caught.value)


def test_value_of_another_type_is_refused_by_its_field(configured: Generation) -> None:
    settings = Popular(attribute="year", value="1985", field="sources[1].popularity")
    sources = (SourceOptions(settings=Nearest()), SourceOptions(settings=settings))
    with pytest.raises(AttributeTypeMismatch) as caught:
        retrieve(configured, sources=sources)
    assert caught.value.field == "sources[1].popularity.value"


def test_recent_history_is_that_of_the_request_else_that_of_the_bundle(
    configured: Generation,
) -> None:
    source = SourceOptions(settings=RecentHistory(event_count=3), candidate_count=5)
    known = retrieve(configured, User(id="u1"), sources=(source,))
    seen = configured.catalog.seen("u1").tolist()
    vectors = configured.bundle.item_embeddings

    def near(rows: list[int], excluded: set[int]) -> list[int]:
        scores = vectors @ vectors[rows].mean(axis=0)
        order = sorted(range(60), key=lambda row: -scores[row])
        return [row for row in order if row not in excluded][:5]

    assert rows_of(known, "recent_history") == near(seen[-3:], set(seen))
    sent = User(id="u1", history=tuple(Event(item_id=f"i{row}") for row in (7, 8, 9, 10)))
    answer = retrieve(configured, sent, sources=(source,))
    expected = near([8, 9, 10], {*seen, 7, 8, 9, 10})
    assert rows_of(answer, "recent_history") == expected
    assert answer.sources[0].plan.startswith("last 3 events: exact")


def test_a_source_that_waits_is_found_by_its_kind_whatever_its_name(
    configured: Generation,
) -> None:
    class Waiting:
        waits = True

    changed = altered(configured, kinds={"popularity": Waiting()})
    funnel = changed.funnel
    assert funnel.waits(Query(subject=User()), Options())
    assert not funnel.waits(
        Query(subject=User()), Options(sources=(SourceOptions(settings=Nearest()),))
    )
    assert funnel.waits(
        Query(subject=User()), Options(sources=(SourceOptions(settings=Popular()),))
    )
    # By name alone it may be any of those that the bundle configures.
    assert funnel.waits(Query(subject=User()), Options(sources=(SourceOptions(name="dramas"),)))
    funnel.close()
