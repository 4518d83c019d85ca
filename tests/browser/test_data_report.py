"""The page about a data set in a browser: what is accepted is saved as a fix list that `data.fixes` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browsing import Browse
from looked_at_data import SCHEMA, answered, looked_at, people_table, picture, write

from ensemble_kit.data.fixes import apply_fixes, read_fixes
from ensemble_kit.data.samples import read_samples
from ensemble_kit.data_report import write_report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set and its page: two people's gender and one photo's mask in doubt, an age, a duplicate."""
    root = people_table(tmp_path_factory.mktemp("made") / "data", people=14)
    write(root / "p06_0.jpg", picture(10), quality=60)  # p01_0 again, of another gender
    probs: dict[str, Any] = answered(root, p03=0, p08=1)
    table = read_samples(root, SCHEMA)
    probs["mask"][table.ids == "p05_1"] = [0.99, 0.01]
    probs["age"][table.groups == "p02"] = [0.1, 0.8, 0.1]  # labelled 61
    facts = looked_at(root, probs=probs)
    return root, write_report(root.parent / "page.html", facts, with_photos=True)


def card(tab: Any, text: str) -> Any:
    return tab.page.locator(".card.doubt").filter(has_text=text)


def saved(tab: Any, folder: Path) -> Path:
    with tab.page.expect_download() as coming:
        tab.page.get_by_role("button", name="Download fixes.csv").click()
    assert coming.value.suggested_filename == "fixes.csv"
    coming.value.save_as(folder / "fixes.csv")
    return folder / "fixes.csv"


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_no_fault_no_request_and_no_wider_than_its_window(
    browse: Browse, made: tuple[Path, Path], width: int, dark: bool
) -> None:
    tab = browse(made[1], width=width, dark=dark)
    assert tab.faults() == []
    assert not tab.is_wider_than_its_window()
    assert tab.page.locator("img").count() > 20
    for section in tab.page.locator(".sections a").all():
        assert tab.page.locator(str(section.get_attribute("href"))).count() == 1


def test_accepted_fixes_are_saved_as_a_list_that_is_read_and_applied(
    browse: Browse, made: tuple[Path, Path], tmp_path: Path
) -> None:
    root, page = made
    tab = browse(page)
    assert tab.page.get_by_role("button", name="Download fixes.csv").is_disabled()
    card(tab, "p03").get_by_label("Accept").check()
    card(tab, "p05_1.jpg").get_by_label("Accept").check()
    card(tab, "p02").get_by_label("Number").fill("44")
    tab.page.locator("#basket-count").click()
    assert "3 fixes accepted" in str(tab.page.locator("#basket-count").text_content())
    fixes = read_fixes(saved(tab, tmp_path))
    said = [(fix.group, fix.attribute, fix.old, fix.new, bool(fix.sha256)) for fix in fixes]
    assert said == [
        ("p05", "mask", "not_worn", "worn", True),
        ("p03", "gender", "female", "male", False),
        ("p02", "age", "61", "44", False),
    ]
    table = read_samples(root, SCHEMA)
    after, report = apply_fixes(table, fixes)
    assert (report.changed, report.problems) == (5, ())
    assert after.frame["age"][after.frame["group_id"] == "p02"].tolist() == [44.0, 44.0]
    assert after.frame["mask"][after.ids == "p05_1"].tolist() == ["worn"]


def test_by_keys_alone(browse: Browse, made: tuple[Path, Path], tmp_path: Path) -> None:
    tab = browse(made[1])
    card(tab, "p08").get_by_label("Accept").focus()
    tab.page.keyboard.press("Space")
    for _ in range(200):
        tab.page.keyboard.press("Tab")
        if tab.page.evaluate("document.activeElement.id") == "basket-save":
            break
    with tab.page.expect_download() as coming:
        tab.page.keyboard.press("Enter")
    coming.value.save_as(tmp_path / "fixes.csv")
    assert [fix.cells for fix in read_fixes(tmp_path / "fixes.csv")] == [("p08", "", "gender", "male", "female", "")]


def test_what_was_said_last_about_a_label_holds(browse: Browse, made: tuple[Path, Path], tmp_path: Path) -> None:
    tab = browse(made[1])
    choice = tab.page.locator(".pair select").first
    choice.select_option(label="both male")
    first = [fix.cells[0] for fix in read_fixes(saved(tab, tmp_path))]
    choice.select_option(label="both female")
    second = [fix.cells[0] for fix in read_fixes(saved(tab, tmp_path))]
    assert (first, second) == (["p01"], ["p06"])
    number = card(tab, "p02").get_by_label("Number")
    number.fill("")
    number.press("Tab")
    assert not card(tab, "p02").get_by_label("Accept").is_checked()
    tab.page.get_by_role("button", name="Accept none").click()
    assert tab.page.locator("#basket-count").text_content() == "No fix accepted"


def test_five_thousand_rows_stay_responsive(browse: Browse, made: tuple[Path, Path]) -> None:
    """Many more cards than a page lists: accepting one still answers at once."""
    tab = browse(made[1])
    tab.page.evaluate(
        """() => { const list = document.querySelector('.cards');
        for (let i = 0; i < 5000; i++) list.appendChild(document.querySelector('.doubt').cloneNode(true)); }"""
    )
    tab.page.locator(".card.doubt").first.get_by_label("Accept").check(timeout=120_000)
    assert "accepted" in str(tab.page.locator("#basket-count").text_content())


def test_photos_of_a_person_stay_within_the_paper(made: tuple[Path, Path], browse: Browse) -> None:
    tab = browse(made[1], width=700)
    tab.page.emulate_media(media="print")
    assert not tab.is_wider_than_its_window()
    outside = tab.page.evaluate(
        "[...document.querySelectorAll('.card')].filter(card => [...card.querySelectorAll('img')].some("
        "img => img.getBoundingClientRect().right > card.getBoundingClientRect().right)).length"
    )
    assert outside == 0
