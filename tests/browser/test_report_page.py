"""The report in a browser: no fault, no request, read by keyboard, on a phone, in the dark and on paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from browsing import Browse
from report_cases import faces, make_run

import ensemble_kit as ek

pytestmark = pytest.mark.slow

EVIL = "<script>alert(1)</script>\"'&"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of faces with photos, one whose names are scripts, and one of 80 joint classes."""
    root = tmp_path_factory.mktemp("reports")
    runs = {"faces": make_run(root / "faces"), "evil": make_run(root / "evil", faces(EVIL), note=EVIL)}
    paths = [(f"kind{k // 20}", f"coarse{k // 4}", f"fine{k}") for k in range(80)]
    shop = ek.Schema.from_rows(["kind", "coarse", "fine"], paths)
    graph = ek.Graph({"kind": [], "coarse": ["kind"], "fine": ["coarse"]})
    runs["shop"] = make_run(root / "shop", shop, graph, n_people=100)
    noise = np.random.default_rng(0).integers(0, 255, (40, 30, 3)).astype(np.uint8)
    for k in range(90):
        cv2.imwrite(str(runs["faces"] / f"{k}.jpg"), noise)
    for name, folder in runs.items():
        ek.report_run(folder, root / f"{name}.html", answers=folder / "answers.csv", n_boot=20)
    return {name: root / f"{name}.html" for name in runs}


@pytest.mark.parametrize("name", ["faces", "evil", "shop"])
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_a_report_has_no_fault(browse: Browse, pages: dict[str, Path], name: str, width: int, dark: bool) -> None:
    tab = browse(pages[name], width=width, dark=dark)
    assert not tab.is_wider_than_its_window()
    tab.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert tab.faults() == []
    assert not tab.is_wider_than_its_window()


def test_the_page_is_read_by_keyboard(browse: Browse, pages: dict[str, Path]) -> None:
    tab = browse(pages["faces"])
    focused = "document.activeElement.textContent.trim()"
    tab.page.keyboard.press("Tab")
    assert tab.page.evaluate(focused) == "Skip to the content"
    tab.page.keyboard.press("Enter")
    assert tab.page.evaluate("document.activeElement.id") == "main"
    tab.page.locator(".sections a", has_text="Routes").focus()
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_function("location.hash === '#routing'")
    tab.page.wait_for_function("document.querySelector('.sections a[aria-current]').textContent === 'Routes'")
    tab.page.locator("summary").first.focus()
    tab.page.keyboard.press("Enter")
    assert tab.page.locator("details[open]").count() == 1
    outline = tab.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"


def test_the_button_turns_light_into_dark(browse: Browse, pages: dict[str, Path]) -> None:
    tab = browse(pages["faces"])
    ink: Any = "getComputedStyle(document.body).backgroundColor"
    light = tab.page.evaluate(ink)
    tab.page.get_by_role("button", name="Dark page").click()
    assert tab.page.evaluate(ink) != light
    assert tab.faults() == []
    tab.page.get_by_role("button", name="Light page").click()
    assert tab.page.evaluate(ink) == light


def test_paper_is_light_and_has_no_navigation(browse: Browse, pages: dict[str, Path]) -> None:
    tab = browse(pages["faces"], width=720, dark=True)
    tab.page.emulate_media(media="print")
    tab.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert tab.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not tab.page.locator(".sections").is_visible()
    assert tab.page.locator("pre").is_visible()
    assert not tab.is_wider_than_its_window()


def test_words_of_pictures_stay_inside_them(browse: Browse, pages: dict[str, Path]) -> None:
    """Every text of every chart lies in its drawing, with the font of this machine."""
    script = """() => [...document.querySelectorAll('svg.chart')].flatMap(svg => {
      const box = svg.getBoundingClientRect();
      return [...svg.querySelectorAll('text')].filter(text => {
        const own = text.getBoundingClientRect();
        return own.left < box.left - 1 || own.right > box.right + 1 || own.bottom > box.bottom + 1;
      }).map(text => svg.getAttribute('aria-label') + ': ' + text.textContent);
    })"""
    for name in ("faces", "shop"):
        tab = browse(pages[name])
        tab.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        assert tab.page.evaluate(script) == []


def test_a_script_in_a_name_does_not_run(browse: Browse, pages: dict[str, Path]) -> None:
    tab = browse(pages["evil"])
    assert tab.page.locator("script").count() == 1
    assert EVIL in tab.page.inner_text("#data")
    alerts: list[str] = []
    tab.page.on("dialog", lambda dialog: alerts.append(dialog.message))
    tab.page.wait_for_timeout(100)
    assert alerts == []


def test_photos_are_shown_where_they_were_asked_for(browse: Browse, pages: dict[str, Path]) -> None:
    folder = pages["faces"].with_suffix("")
    page = folder.parent / "photos.html"
    ek.report_run(folder, page, photos=True, n_boot=10, answers=folder / "answers.csv")
    tab = browse(page)
    assert tab.faults() == []
    assert tab.page.locator("img").count() > 0
    drawn = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
    assert tab.page.evaluate(drawn)
    assert browse(pages["faces"]).page.locator("img").count() == 0
