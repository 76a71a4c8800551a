"""The playground in a browser, and what it did that it must not."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

ROOT = Path(__file__).parents[1]
SCREENSHOTS = ROOT / "build/screenshots"
AXE = ROOT / "clients/playground/node_modules/axe-core/axe.min.js"
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@dataclass
class Watched:
    """A page, and what it did that it must not."""

    page: Any
    origin: str
    console: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("console", lambda one: self._log(one.type, one.text))
        self.page.on("pageerror", lambda error: self.console.append(str(error)))
        self.page.on("request", lambda request: self._asked(request.url))

    def _log(self, kind: str, text: str) -> None:
        # Browsers write down each answer that is an error, which some of the tests ask for.
        refused = text.startswith(
            "Failed to load resource: the server responded with a status of 4"
        )
        if kind in ("error", "warning") and not refused:
            self.console.append(text)

    def _asked(self, url: str) -> None:
        if not url.startswith(f"{self.origin}/"):
            self.elsewhere.append(url)

    def open(self, address: str = "") -> None:
        self.page.goto(f"{self.origin}/playground/{address}")

    def ask(self) -> None:
        """Press the button, and wait for what comes."""
        answers = self.page.locator("#answers")
        answers.evaluate("element => element.replaceChildren()")
        self.page.click("#run")
        answers.locator(".answer, .notice").first.wait_for()

    def ids(self, side: int = 0) -> list[str]:
        """The items of the list that is shown."""
        items = self.page.locator(".answer").nth(side).locator(".item")
        found: list[str] = items.evaluate_all("all => all.map(one => one.dataset.id)")
        return found

    def shoot(self, name: str, *, from_top: bool = True) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        if from_top:
            self.page.evaluate("() => scrollTo(0, 0)")
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")

    def violations(self, rules: list[str] | None = None) -> list[str]:
        """What axe-core finds that is serious or worse, by all of its rules or by these."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        only = {} if rules is None else {"runOnly": rules}
        found = json.loads(
            self.page.evaluate(
                "async only => JSON.stringify((await axe.run(document, only)).violations)", only
            )
        )
        return [
            f"{one['id']}: {node['html']} {node.get('failureSummary', '')}"
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]


OpenPage: TypeAlias = Callable[..., Watched]
"""Opens the page, at an address behind `#`."""
Opener: TypeAlias = Callable[[], AbstractContextManager[OpenPage]]
