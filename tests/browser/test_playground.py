"""The playground in a browser: what it asks, and what it shows.

Writes a picture of each state to `build/screenshots`.
"""

from __future__ import annotations

import json
import re

import pytest
from llm_behaviours import answer, slow
from llm_stub import LlmStub
from watched_page import PHONE, OpenPage

ADA = "#user=ada&limit=5"


def test_it_recommends_and_draws_the_funnel(open_page: OpenPage) -> None:
    watched = open_page()
    page = watched.page
    page.locator("#server[data-state=good]").wait_for()
    assert "films 1: 22 items, 4 users" in page.inner_text("#server")
    watched.shoot("empty")
    page.keyboard.press("/")
    page.keyboard.type("ada")
    page.keyboard.press("Enter")
    page.locator(".item").first.wait_for()
    assert watched.ids()[:3] == ["empire", "jedi", "matrix"]
    stages = page.locator(".stage")
    assert stages.locator(".stage-name b").all_inner_texts() == [
        "admission",
        "query",
        "retrieval",
        "ranking",
        "select",
        "response",
    ]
    assert stages.nth(4).locator(".counts").text_content() == "items in: 19 → , out: 10"
    assert "exact 22 of 22" in stages.nth(2).inner_text()
    # The matrix was the fourth that was found, and is the third of the list.
    third = page.locator(".item").nth(2).inner_text()
    assert "The Matrix 1999" in third
    assert "Action · Science Fiction" in third
    assert re.search(r"found 4\s+ranked 3\s+here 3\s+▲1", third)
    assert "two_tower" in third
    assert "1 call;" in page.inner_text("#latency")
    watched.shoot("list")


def test_it_filters_by_the_bundles_schema(open_page: OpenPage) -> None:
    watched = open_page(ADA)
    page = watched.page
    page.locator(".item").first.wait_for()
    page.click("#condition-add")
    assert page.locator(".condition select").first.input_value() == "genres"
    page.fill(".condition input", "Romance")
    page.click("#condition-add")
    second = page.locator(".condition").nth(1)
    second.locator("select").first.select_option("year")
    second.locator("select").nth(1).select_option("<=")
    second.locator("input").fill("1999")
    watched.ask()
    assert set(watched.ids()) == {"casablanca", "before-sunrise"}
    assert "2 match the filters" in page.inner_text(".facts")
    assert "2 of the 5 asked for: no more items match the filters" in page.inner_text(
        ".notice.warn"
    )
    watched.shoot("filtered")
    # What is asked stands in the address, and is asked again by who opens it.
    again = open_page(page.url.partition("/playground/")[2])
    again.page.locator(".item").first.wait_for()
    assert again.ids() == watched.ids()
    assert again.page.locator(".condition").count() == 2


def test_values_of_filters_are_offered(open_page: OpenPage) -> None:
    page = open_page(ADA).page
    page.locator("#known-items option").first.wait_for(state="attached")
    page.click("#condition-add")
    offered = page.locator(".condition datalist option").evaluate_all(
        "all => all.map(o => o.value)"
    )
    assert {"Romance", "Crime", "Animation"} <= set(offered)


def test_somebody_new_who_likes_films(open_page: OpenPage) -> None:
    watched = open_page()
    page = watched.page
    page.locator("#known-items option").first.wait_for(state="attached")
    page.fill("#like", "the godfather")
    page.keyboard.press("Enter")
    page.fill("#like", "fargo")
    page.click("#like-add")
    assert page.locator("#liked .chip").all_text_contents() == ["The Godfather×", "Fargo×"]
    watched.ask()
    assert watched.ids()[0] == "godfather-2"
    assert "not known: answered from what was liked" in page.inner_text(".facts")
    # Those of the list can be liked, too.
    page.locator(".item .like").first.click()
    assert page.locator("#liked .chip").count() == 3
    page.locator("#liked .remove").nth(2).click()
    assert page.locator("#liked .chip").count() == 2


def test_sources_diversity_and_a_language_model(open_page: OpenPage) -> None:
    watched = open_page(ADA)
    page = watched.page
    page.locator(".item").first.wait_for()
    for box in ("#sources-box", "#model-box", "#more-box"):
        page.click(f"{box} > summary")
    page.check("#source-nearest")
    page.fill("#source-nearest-count", "6")
    page.check("#source-popularity")
    page.fill("#source-popularity-count", "4")
    page.locator("#diversity").fill("0.4")
    page.check("#rerank")
    page.check("#reasons")
    page.check("#explain")
    page.check("#debug")
    watched.ask()
    names = page.locator(".stage-name b").all_inner_texts()
    assert {"rerank", "diversity"} < set(names)
    found = page.locator(".sources .chip").all_text_contents()
    assert [text.partition(" in ")[0] for text in found] == ["two_tower 6", "popularity 4"]
    assert "ordered by gemini/m-1" in page.inner_text(".facts")
    first = page.locator(".item").first
    assert re.search(r"model 1\s+diverse 1\s+here 1\s+▲", first.inner_text())
    title = first.locator(".title b").inner_text()
    assert first.locator(".reason").inner_text() == f"{title}, since it is late."
    page.locator(".raw summary").nth(0).click()
    page.locator(".raw summary").nth(1).click()
    request, response = map(json.loads, page.locator(".raw pre").all_inner_texts())
    assert request["selection"] == {"diversity": 0.4}
    assert request["rerank"] == {"reasons": True}
    assert [one["id"] for one in response["items"]] == watched.ids()
    assert response["info"]["answeredQuery"]["limit"] == 5
    assert response["items"][0]["modelInputs"]
    # Once more, for a picture without the time of a first connection to the model.
    watched.ask()
    watched.shoot("model")


def test_two_settings_side_by_side(open_page: OpenPage) -> None:
    watched = open_page(ADA)
    page = watched.page
    page.locator(".item").first.wait_for()
    page.click("#compare")
    page.locator("#diversity").fill("0.8")
    watched.ask()
    page.locator(".answers.two .item").first.wait_for()
    a, b = set(watched.ids(0)), set(watched.ids(1))
    assert a != b
    assert f"{len(a & b)} item in both" in page.inner_text(".overlap")
    assert page.locator(".answer").nth(0).locator(".compared.only").count() == len(a - b)
    assert "B, diversity 0.8" in page.inner_text(".answer:nth-of-type(2) .side")
    watched.shoot("compare")
    again = open_page(page.url.partition("/playground/")[2])
    again.page.locator(".answers.two .item").first.wait_for()
    assert again.ids(1) == watched.ids(1)
    # An address is followed without the page being loaded again, too.
    again.page.evaluate("() => { location.hash = 'user=ben&limit=2'; }")
    again.page.locator(".headline", has_text="2 items for user ben").wait_for()
    assert again.page.locator(".answer").count() == 1
    assert again.page.inner_text("#run") == "Recommend"


def test_two_bundles_side_by_side(open_page: OpenPage) -> None:
    watched = open_page(ADA)
    page = watched.page
    page.locator(".item").first.wait_for()
    page.click("#compare")
    page.click("#more-box > summary")
    page.select_option("#label", "canary")
    watched.ask()
    page.locator(".answers.two .item").first.wait_for()
    facts = page.locator(".facts").all_inner_texts()
    assert "(stable)" in facts[0]
    assert "(canary)" in facts[1]
    # They are one bundle here.
    assert "5 items in both, 5 of them in the same place" in page.inner_text(".overlap")


def test_it_converses_with_the_model(open_page: OpenPage) -> None:
    watched = open_page("#user=ben")
    page = watched.page
    page.locator(".item").first.wait_for()
    page.click("#view-talk")
    assert page.input_value("#talk-user") == "ben"
    said = ["Something for a long, dark night", "Only science fiction, please", "Why the first?"]
    for turn, text in enumerate(said):
        page.fill("#said", text)
        page.keyboard.press("Enter")
        page.locator(".turn").nth(turn).locator(".foot", has_text="tokens in").wait_for()
    first, second, third = page.locator(".turn").all_inner_texts()
    assert "I would begin with The Godfather." in first
    assert "genres is Science Fiction" in second
    assert "Blade Runner" in second
    assert "explain" in third
    assert "I chose Blade Runner for you. It goes with Science Fiction." in third
    watched.shoot("conversation")
    page.click("#talk-new")
    assert page.locator(".turn").count() == 0


def test_a_slow_model_can_be_stopped(open_page: OpenPage, stub: LlmStub) -> None:
    watched = open_page()
    page = watched.page
    page.click("#view-talk")
    stub.behave(slow(30.0))
    try:
        page.fill("#said", "Something older")
        page.keyboard.press("Enter")
        page.locator(".foot", has_text="The server is reading what you said").wait_for()
        watched.shoot("slow-model")
        page.click("#talk-stop")
        page.locator(".turn .notice", has_text="Stopped by you").wait_for()
        # What was said is there to be said again.
        assert page.input_value("#said") == "Something older"
    finally:
        stub.behave(answer())
    # In other words: the same ones would wait for the model's answer to those that were stopped, if
    # the server has not heard of that yet.
    page.fill("#said", "Something older, and shorter")
    page.keyboard.press("Enter")
    page.locator(".turn").nth(1).locator(".foot", has_text="tokens in").wait_for()


def test_theme_is_the_systems_until_it_is_chosen(open_page: OpenPage) -> None:
    watched = open_page(ADA, color_scheme="dark")
    page = watched.page
    page.locator(".item").first.wait_for()

    def background() -> str:
        color: str = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        return color

    dark = background()
    watched.shoot("list-dark")
    page.click("#theme-button")
    assert page.inner_text("#theme-button") == "Theme: light"
    light = background()
    assert dark != light
    page.reload()
    page.locator(".item").first.wait_for()
    assert background() == light
    page.click("#theme-button")
    assert background() == dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page: OpenPage, scheme: str) -> None:
    watched = open_page(color_scheme=scheme)
    page = watched.page
    # All that differs is the colours.
    rules = ["color-contrast"] if scheme == "dark" else None
    page.locator("#server[data-state=good]").wait_for()
    assert watched.violations(rules) == []
    for box in ("#features-box", "#sources-box", "#model-box", "#more-box"):
        page.click(f"{box} > summary")
    page.fill("#user", "ada")
    page.click("#condition-add")
    page.fill(".condition input", "Action")
    page.click("#compare")
    page.locator("#diversity").fill("0.5")
    watched.ask()
    page.locator(".raw summary").first.click()
    assert watched.violations(rules) == []
    page.fill("#limit", "501")
    watched.ask()
    page.locator(".problem").wait_for()
    assert watched.violations(rules) == []
    page.click("#view-talk")
    page.fill("#said", "Only romance")
    page.keyboard.press("Enter")
    page.locator(".foot", has_text="tokens in").wait_for()
    assert watched.violations(rules) == []
    page.click("#key-button")
    assert watched.violations(rules) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_on_a_phone(open_page: OpenPage, scheme: str) -> None:
    watched = open_page(ADA, viewport=PHONE, color_scheme=scheme)
    page = watched.page
    page.locator(".item").first.wait_for()
    for view, name in (("list", "phone"), ("talk", "phone-conversation")):
        page.click(f"#view-{view}")
        for width in (360, PHONE["width"]):
            page.set_viewport_size(PHONE | {"width": width})
            assert page.evaluate("() => document.documentElement.scrollWidth") <= width, view
        if view == "talk":
            below = page.locator("#talk-form").bounding_box()
            assert below["y"] + below["height"] <= PHONE["height"]
        watched.shoot(f"{name}-{scheme}")
    # Letters are as large as phones want them.
    page.click("#view-list")
    page.locator(".funnel").scroll_into_view_if_needed()
    watched.shoot(f"phone-funnel-{scheme}", from_top=False)
    sizes = """all => all.filter(one => one.checkVisibility())
        .map(one => parseFloat(getComputedStyle(one).fontSize))"""
    smallest = min(page.locator(".results :is(p, li, span)").evaluate_all(sizes))
    assert smallest >= 12


def test_the_keyboard_reaches_everything(open_page: OpenPage) -> None:
    page = open_page().page
    page.locator("#server[data-state=good]").wait_for()
    focused = "() => document.activeElement.id || document.activeElement.className"
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "skip"
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "view-list"
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == "view-talk"
    assert page.locator("#talk").is_visible()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#form").is_visible()
    page.keyboard.press("/")
    assert page.evaluate(focused) == "user"
    page.keyboard.type("ben")
    page.keyboard.press("Control+Enter")
    page.locator(".item").first.wait_for()
    page.get_by_role("tab", name="shortlist", exact=True).focus()
    page.keyboard.press("ArrowRight")
    assert (
        page.get_by_role("tab", name="Python", exact=True).get_attribute("aria-selected") == "true"
    )
    assert "from shortlist_client import Client" in page.inner_text(".calls pre >> nth=0")
