"""Pages of ours in headless Chromium, where any request and any complaint of the page fails the test."""

from __future__ import annotations

import importlib.resources
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
MISSING = "no Chromium; install it (apt install chromium), or set ENS_CHROMIUM"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
QUIET += ["--disable-background-networking", "--disable-component-update"]


def chromium() -> str | None:
    """ENS_CHROMIUM, or the first browser on the path."""
    named = os.environ.get("ENS_CHROMIUM")
    return named or next((found for name in NAMES if (found := shutil.which(name))), None)


class Tab:
    """An open page: `page` is Playwright's; the rest is what our pages promise.

    Attributes:
        complaints: errors and warnings of its console, and exceptions.
        requests: all addresses it asked for beside its own file.
    """

    def __init__(self, page: Any, file: Path):
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        own = file.resolve().as_uri()
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda asked: self._note(asked.url, own))
        page.goto(own)

    def _hear(self, said: Any) -> None:
        if said.type in ("error", "warning"):
            self.complaints.append(said.text)

    def _note(self, url: str, own: str) -> None:
        if url.split("#")[0] != own and not url.startswith(("data:", "blob:")):
            self.requests.append(url)

    def faults(self) -> list[str]:
        """What axe-core finds serious or critical, one line a rule."""
        source = importlib.resources.files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
        self.page.evaluate(source)  # not a script tag: the page's own policy would refuse one
        found = self.page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
        serious = [one for one in found if one["impact"] in ("serious", "critical")]
        return [f"{one['id']}: {one['help']}: {[node['html'][:120] for node in one['nodes'][:3]]}" for one in serious]

    def is_wider_than_its_window(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A skip that nobody overlooks."""
    skipped = [one for one in terminalreporter.stats.get("skipped", []) if MISSING in str(one.longrepr)]
    if skipped:
        terminalreporter.section("PAGES NOT TESTED", red=True)
        terminalreporter.line(f"{len(skipped)} tests of pages were skipped: {MISSING}", red=True)


Browse = Callable[..., Tab]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    path = chromium()
    if path is None:
        pytest.skip(MISSING)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=path, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture
def browse(browser: Any) -> Iterator[Browse]:
    """`browse(file, width=1280, dark=False)` opens a page; at the end it must not have complained or asked for anything."""
    tabs: list[Tab] = []
    with ExitStack() as stack:

        def opened(file: Path, width: int = 1280, height: int = 900, dark: bool = False) -> Tab:
            size: Any = {"width": width, "height": height}
            context = browser.new_context(
                viewport=size, color_scheme="dark" if dark else "light", reduced_motion="reduce", accept_downloads=True
            )
            stack.callback(context.close)
            tabs.append(Tab(context.new_page(), file))
            return tabs[-1]

        yield opened
        for tab in tabs:
            assert tab.complaints == []
            assert tab.requests == []
