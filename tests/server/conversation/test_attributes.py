from __future__ import annotations

from typing import Any

import pytest
from shortlist_server.conversation.attributes import (
    Attribute,
    ConditionUnfit,
    attributes_of,
    filter_of,
)
from shortlist_server.conversation.state import Comparison
from shortlist_server.generation import Generation

IS, IS_NOT = Comparison.IS, Comparison.IS_NOT
AT_LEAST, AT_MOST = Comparison.AT_LEAST, Comparison.AT_MOST
YEAR = Attribute(name="year", type="int64")
PRICE = Attribute(name="price", type="double")
NEW = Attribute(name="new", type="bool")
GENRES = Attribute(name="genres", type="string_list", known={"comedy": "Comedy"})


def test_a_sample_of_the_items_tells_what_values_there_are(generation: Generation) -> None:
    attributes = attributes_of(generation.catalog)
    assert list(attributes) == ["title", "year", "genres"]
    assert attributes["title"].told() == {"name": "title", "type": "string"}
    assert sorted(attributes["genres"].told()["values"]) == ["Comedy", "Drama", "Horror"]
    assert attributes["year"].told()["from"] == 1980
    assert attributes["year"].told()["to"] == 2019


@pytest.mark.parametrize(
    ("attribute", "comparison", "values", "read"),
    [
        (YEAR, IS, ["1999"], (1999,)),
        (YEAR, AT_MOST, [" 1999 "], (1999,)),
        (YEAR, IS, [1999.0, "1999", 2000], (1999, 2000)),
        (YEAR, IS, [str(2**63 - 1)], (2**63 - 1,)),
        (PRICE, AT_LEAST, ["9.5"], (9.5,)),
        (PRICE, IS, [3], (3.0,)),
        (NEW, IS, ["True"], (True,)),
        (NEW, IS_NOT, [False], (False,)),
        (GENRES, IS, ["COMEDY "], ("Comedy",)),
        (GENRES, IS_NOT, ["War"], ("War",)),
    ],
)
def test_words_become_values_of_the_type(
    attribute: Attribute, comparison: Comparison, values: list[Any], read: tuple[Any, ...]
) -> None:
    fitted = attribute.fitted(comparison, values).values
    assert fitted == read
    assert list(map(type, fitted)) == list(map(type, read))


@pytest.mark.parametrize(
    ("attribute", "comparison", "values"),
    [
        (YEAR, IS, ["old"]),
        (YEAR, IS, [1999.5]),
        (YEAR, IS, ["9" * 400]),
        (YEAR, IS, [2**63]),
        (YEAR, IS, [True]),
        (YEAR, IS, []),
        (YEAR, IS, list(range(17))),
        (YEAR, AT_LEAST, [1, 2]),
        (YEAR, IS, [None]),
        (PRICE, IS, ["nan"]),
        (PRICE, IS, ["inf"]),
        (NEW, IS, ["maybe"]),
        (NEW, AT_LEAST, ["true"]),
        (GENRES, AT_LEAST, ["Comedy"]),
        (GENRES, IS, ["  "]),
        (GENRES, IS, ["x" * 2_000]),
        (GENRES, IS, [1]),
    ],
)
def test_what_does_not_fit_is_refused(
    attribute: Attribute, comparison: Comparison, values: list[Any]
) -> None:
    with pytest.raises(ConditionUnfit):
        attribute.fitted(comparison, values)


@pytest.mark.parametrize(
    ("name", "comparison", "values", "matches"),
    [
        ("year", AT_LEAST, ["2000"], lambda year, genres: year is not None and year >= 2000),
        ("year", AT_MOST, ["2000"], lambda year, genres: year is not None and year <= 2000),
        ("year", IS, ["1999", "2001"], lambda year, genres: year in (1999, 2001)),
        ("year", IS_NOT, ["1999"], lambda year, genres: year != 1999),
        ("genres", IS, ["comedy", "Horror"], lambda year, genres: {"Comedy", "Horror"} & genres),
        ("genres", IS_NOT, ["drama"], lambda year, genres: "Drama" not in genres),
    ],
)
def test_conditions_match_what_they_say(
    name: str, comparison: Comparison, values: list[str], matches: Any, generation: Generation
) -> None:
    catalog = generation.catalog
    attributes = attributes_of(catalog)
    condition = attributes[name].fitted(comparison, values)
    selection = catalog.select(filter_of(attributes, [condition]), None)
    assert selection is not None
    expected = [
        bool(matches(catalog.attribute("year", row), set(catalog.attribute("genres", row) or ())))  # type: ignore[arg-type]
        for row in range(catalog.size)
    ]
    assert any(expected)
    assert selection.mask.tolist() == expected
