"""The playground in a browser where things are not as they should be: each has a clear state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import RunningServer
from shortlist_server.access.api_keys import entry, make_key
from watched_page import OpenPage, Watched

ADA = "#user=ada&limit=5"
KEYS = {"guest": ["playground"], "prober": ["reflection"], "hurried": ["playground"]}


@pytest.fixture(scope="module")
def keys() -> dict[str, str]:
    return {name: make_key() for name in KEYS}


@pytest.fixture(scope="module")
def guarded(
    films: tuple[Path, Any], keys: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server that asks for keys, and has no language model."""
    file = tmp_path_factory.mktemp("keys") / "keys.toml"
    limits: dict[str, Any] = {"hurried": {"requests_per_second": 0.001, "burst": 2}}
    file.write_text(
        "\n".join(
            entry(key, name=name, scopes=KEYS[name], **limits.get(name, {}))
            for name, key in keys.items()
        )
    )
    bundle, generation = films
    running = RunningServer(
        bundle, generation, http_listen="127.0.0.1:0", playground=True, api_keys_file=file
    )
    yield running
    running.stop()


def use(watched: Watched, key: str, *, remember: bool = False) -> None:
    page = watched.page
    page.locator("#key-dialog[open]").wait_for()
    page.fill("#key", key)
    page.set_checked("#key-remember", remember)
    page.keyboard.press("Enter")


def test_what_the_server_refuses_stands_beside_its_field(open_page: OpenPage) -> None:
    watched = open_page(ADA)
    page = watched.page
    page.locator(".item").first.wait_for()
    page.fill("#limit", "501")
    watched.ask()
    problem = page.locator("[data-field=limit] .problem")
    assert problem.inner_text() == "expected 1..500, or unset for 20, got 501"
    assert page.locator("#limit").get_attribute("aria-describedby") == problem.get_attribute("id")
    assert page.evaluate("() => document.activeElement.id") == "limit"
    watched.shoot("refused")
    page.fill("#limit", "5")
    page.click("#condition-add")
    page.locator(".condition select").first.select_option("year")
    page.fill(".condition input", "soon")
    watched.ask()
    assert page.locator("#limit[aria-invalid]").count() == 0
    assert "int64" in page.inner_text("[data-field=filter] .problem")


def test_a_bundle_without_texts_says_so_beside_the_words(open_page: OpenPage) -> None:
    watched = open_page()
    page = watched.page
    page.locator("#server[data-state=good]").wait_for()
    page.fill("#text", "a heist in a dream")
    watched.ask()
    assert "text embeddings" in page.inner_text("[data-field='query.text'] .problem")


def test_a_list_that_nothing_is_left_for(open_page: OpenPage) -> None:
    watched = open_page(ADA)
    page = watched.page
    page.locator(".item").first.wait_for()
    page.click("#condition-add")
    page.fill(".condition input", "Western")
    watched.ask()
    assert "No item is left" in page.inner_text(".answer .empty")


def test_words_of_others_are_never_markup(open_page: OpenPage) -> None:
    watched = open_page(f"#user={'%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E'}&limit=2")
    page = watched.page
    page.locator(".item").first.wait_for()
    assert page.locator("img").count() == 1
    assert "<img src=x onerror=alert(1)>" in page.inner_text(".headline")


def test_a_key_is_asked_for_refused_and_taken(
    open_page: OpenPage, guarded: RunningServer, keys: dict[str, str]
) -> None:
    watched = open_page(ADA, http=guarded.http)
    page = watched.page
    page.locator("#key-dialog[open]").wait_for()
    assert "asks for an API key" in page.inner_text("#key-why")
    watched.shoot("key")
    use(watched, make_key())
    page.locator("#key-why", has_text="does not know this API key").wait_for()
    use(watched, keys["prober"])
    page.locator(".notice", has_text="The scope playground opens all").wait_for()
    page.click("#key-button")
    use(watched, keys["guest"])
    page.locator(".item").first.wait_for()
    assert page.inner_text("#key-button") == "API key: set"
    # It stands in no address, no store that outlives the page, and nothing that is copied.
    assert keys["guest"] not in page.url
    stored = "() => JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    assert keys["guest"] not in page.evaluate(stored)
    for language in page.locator(".calls [role=tab]").all():
        language.click()
        text = page.inner_text(".calls pre >> nth=0")
        assert keys["guest"] not in text
        assert "SHORTLIST_API_KEY" in text


def test_a_key_that_is_kept_is_there_after_a_reload(
    open_page: OpenPage, guarded: RunningServer, keys: dict[str, str]
) -> None:
    watched = open_page(ADA, http=guarded.http)
    use(watched, keys["guest"], remember=True)
    watched.page.locator(".item").first.wait_for()
    watched.page.reload()
    watched.page.locator(".item").first.wait_for()
    # In this tab alone.
    other = open_page(ADA, http=guarded.http)
    other.page.locator("#key-dialog[open]").wait_for()


def test_a_key_that_is_used_too_often_says_so(
    open_page: OpenPage, guarded: RunningServer, keys: dict[str, str]
) -> None:
    watched = open_page(http=guarded.http)
    use(watched, keys["hurried"])
    watched.page.locator("#server[data-state=good]").wait_for()
    # What is offered to choose from has taken the second call.
    watched.page.locator("#known-items option").first.wait_for(state="attached")
    watched.ask()
    assert "as often as it may be" in watched.page.inner_text(".notice.bad")


def test_without_a_language_model_a_turn_says_so(
    open_page: OpenPage, guarded: RunningServer, keys: dict[str, str]
) -> None:
    watched = open_page(http=guarded.http)
    use(watched, keys["guest"])
    page = watched.page
    page.locator("#server[data-state=good]").wait_for()
    page.click("#view-talk")
    page.fill("#said", "Something older")
    page.keyboard.press("Enter")
    page.locator(".turn .notice.warn").wait_for()
    said = page.inner_text(".turn .notice.warn")
    assert "This server has no language model" in said
    assert page.locator(".turn-items li").count() == 3
    watched.shoot("no-model")


def test_a_server_that_has_gone(open_page: OpenPage, films: tuple[Path, Any]) -> None:
    bundle, generation = films
    server = RunningServer(bundle, generation, http_listen="127.0.0.1:0", playground=True)
    watched = open_page(ADA, http=server.http)
    page = watched.page
    page.locator(".item").first.wait_for()
    server.stop()
    watched.ask()
    assert "The server does not answer. Is it running?" in page.inner_text(".notice.bad")
    assert page.locator("#server[data-state=bad]").is_visible()
    watched.shoot("dead")
    page.click("#view-talk")
    page.fill("#said", "Something older")
    page.keyboard.press("Enter")
    page.locator(".turn .notice.bad", has_text="does not answer").wait_for()
    # Browsers write it down; nothing else may stand there.
    assert all("ERR_CONNECTION_REFUSED" in line for line in watched.console)
    watched.console.clear()
