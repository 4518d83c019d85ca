"""The gallery in a browser: filters filter, keys work, the address keeps what is chosen, 5,000 photos stay responsive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from browsing import Browse, Tab
from core_oracles import face_schema, sample_ids
from gallery_cases import draw_places, face_case

from ensemble_kit.gallery import ComparisonFacts, gallery_board, write_comparison, write_gallery
from ensemble_kit.submissions import compare_labels

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def case() -> Any:
    return face_case(seed=7, n_photos=300)


@pytest.fixture(scope="module")
def page(case: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery")
    places = draw_places(folder / "photos", 300, missing=2, damaged=3)

    def heat(requests: Any) -> Any:
        return [np.eye(6) for _ in requests]

    path = folder / "gallery.html"
    write_gallery(path, case.facts, places, title="A run", scored_on="the photos", heat=heat, n_heat=4)
    return path


WALK = """async () => {
  const found = new Map(), wait = () => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  for (let at = 0; ; at += 600) {
    window.scrollTo(0, at);
    await wait();
    document.querySelectorAll('.cell').forEach(
      cell => found.set(Number(cell.getAttribute('aria-posinset')), cell.firstChild.dataset.id));
    if (at > document.documentElement.scrollHeight) { break; }
  }
  window.scrollTo(0, 0);
  await wait();
  return [...found.keys()].sort((a, b) => a - b).map((place, i) => place === i + 1 ? found.get(place) : null);
}"""


def shown_ids(tab: Tab) -> list[str]:
    """All photos the page shows, in its order: scrolled through, as only those in sight exist."""
    found = tab.page.evaluate(WALK)
    assert len(found) == int(tab.page.evaluate("document.getElementById('board').dataset.shown"))
    return [str(name) for name in found]


def expected_ids(
    case: Any, chosen: Mapping[str, set[str]], keep: Callable[[int], bool] = lambda row: True
) -> list[str]:
    """Worked out here, photo by photo, from names; in the order of confidence."""
    board = gallery_board(case.facts)
    found = []
    for row in board.orders[0].rows.tolist():
        holds = True
        for key, names in chosen.items():
            facet = board.facet(key)
            own = {name for number, name in enumerate(facet.names) if facet.has(number)[row]}
            holds = holds and bool(own & names)
        if holds and keep(row):
            found.append(str(board.ids[row]))
    return found


def tick(tab: Tab, facet: str, name: str) -> None:
    tab.page.locator(f'details[data-facet="{facet}"] label', has=tab.page.get_by_text(name, exact=True)).click()


def test_it_opens_with_the_wrong_ones_most_confident_first(browse: Browse, page: Path, case: Any) -> None:
    tab = browse(page)
    assert shown_ids(tab) == expected_ids(case, {"answer": {"wrong"}})
    assert tab.faults() == []


def test_filters_filter(browse: Browse, page: Path, case: Any) -> None:
    tab = browse(page)
    chosen: dict[str, set[str]] = {"answer": {"wrong"}}
    for facet, name in (
        ("wrong", "age"),
        ("true_age", "30-59"),
        ("true_age", ">=60"),
        ("said_mask", "worn"),
        ("reason", "age: expert wrong"),
    ):
        tick(tab, facet, name)
        chosen.setdefault(facet, set()).add(name)
        expected = expected_ids(case, chosen)
        assert shown_ids(tab) == expected
        assert f"{len(expected)} of 300 photos" in tab.page.inner_text("#status")
    assert 0 < len(expected) < 60
    tab.page.get_by_role("button", name="Clear all filters").click()
    assert tab.page.inner_text("#status") == "300 photos"


def test_counts_tell_what_a_box_would_give(browse: Browse, page: Path, case: Any) -> None:
    """Within a group the other groups count, not the group itself: what choosing this value alone would show."""
    tab = browse(page)
    tick(tab, "true_mask", "worn")
    board = gallery_board(case.facts)
    for key in ("true_mask", "said_gender", "reason", "route_age"):
        for name in board.facet(key).names:
            chosen = {"answer": {"wrong"}, "true_mask": {"worn"}, key: {name}}
            label = tab.page.locator(f'details[data-facet="{key}"] label', has=tab.page.get_by_text(name, exact=True))
            assert label.locator(".n").inner_text() == str(len(expected_ids(case, chosen))), (key, name)


def test_ages_are_chosen_from_to(browse: Browse, page: Path, case: Any) -> None:
    tab = browse(page)
    tab.page.get_by_label("age, at least").fill("33")
    tab.page.get_by_label("age, at most").fill("40")
    ages = case.facts.measured["age"]
    expected = expected_ids(case, {"answer": {"wrong"}}, lambda row: 33 <= ages[row] <= 40)
    assert expected
    assert shown_ids(tab) == expected
    assert "value_age=33..40" in tab.page.url


def test_what_is_chosen_stands_in_the_address_and_survives_a_reload(browse: Browse, page: Path, case: Any) -> None:
    tab = browse(page)
    tick(tab, "said_age", ">=60")
    tab.page.select_option("#order", "unsure")
    before = shown_ids(tab)
    assert before == expected_ids(case, {"answer": {"wrong"}, "said_age": {">=60"}})[::-1]
    assert f"said_age={quote('>=60', safe='')}" in tab.page.url
    tab.page.reload()
    assert shown_ids(tab) == before
    tick(tab, "said_age", ">=60")
    tick(tab, "answer", "wrong")
    tab.page.reload()
    assert tab.page.inner_text("#status") == "300 photos"


@pytest.mark.parametrize(
    "text",
    [
        "answer=%3Cscript%3Ealert(1)%3C%2Fscript%3E",
        "%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E=1",
        "photo=../../etc&order=__proto__&value_age=a..b",
        "answer=%E0%A4%A",
        "find=%3Cscript%3Ealert(1)%3C%2Fscript%3E",
    ],
)
def test_an_address_cannot_bring_anything_in(browse: Browse, page: Path, text: str) -> None:
    tab = browse(page)
    tab.page.evaluate(f"location.hash = {text!r}")
    tab.page.wait_for_timeout(50)
    assert tab.page.locator("#status script, #chosen script, #chosen img").count() == 0
    if "find" in text:
        assert "<script>" in tab.page.inner_text("#chosen")
    else:
        assert "does not have" in tab.page.inner_text("#status")


def test_a_photo_opens_with_everything_and_keys_move(browse: Browse, page: Path, case: Any) -> None:
    tab = browse(page)
    ids = expected_ids(case, {"answer": {"wrong"}})
    tab.page.locator(".tile").first.focus()
    tab.page.keyboard.press("ArrowRight")
    tab.page.keyboard.press("Enter")
    dialog = tab.page.get_by_role("dialog")
    assert dialog.locator("h2").inner_text() == ids[1]
    row = case.facts.ids.tolist().index(ids[1])
    for expert in case.experts:
        table = dialog.get_by_role("group", name=expert.describe(), exact=True)
        for number, voter in enumerate(expert.voters):
            cells = table.locator("tbody tr").nth(number).locator("th, td").all_inner_texts()
            probs = np.asarray(expert.layers[number])[row].astype(float)
            assert cells[0] == voter
            assert [float(cell) for cell in cells[1:]] == pytest.approx(probs.tolist(), abs=6e-4)
    assert tab.faults() == []
    tab.page.keyboard.press("ArrowRight")
    assert dialog.locator("h2").inner_text() == ids[2]
    assert f"photo={quote(ids[2])}" in tab.page.url
    tab.page.reload()
    assert dialog.locator("h2").inner_text() == ids[2]
    tab.page.keyboard.press("ArrowLeft")
    tab.page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert tab.page.evaluate("document.activeElement.dataset.id") == ids[1]
    assert "photo=" not in tab.page.url


def test_maps_lie_over_the_first_photos_and_can_be_taken_away(browse: Browse, page: Path) -> None:
    tab = browse(page)
    tab.page.locator(".tile").first.click()
    layer = tab.page.locator(".large .layer")
    assert layer.is_visible()
    tab.page.keyboard.press("h")
    assert not layer.is_visible()
    tab.page.keyboard.press("ArrowRight")
    assert not layer.is_visible()
    tab.page.keyboard.press("h")
    assert layer.is_visible()


def test_arrows_go_up_and_down_and_to_the_ends(browse: Browse, page: Path, case: Any) -> None:
    tab = browse(page)
    ids = expected_ids(case, {"answer": {"wrong"}})
    columns = tab.page.evaluate(
        "(() => { const tops = [...document.querySelectorAll('.tile')].map(t => t.getBoundingClientRect().top);"
        " return tops.filter(t => t === tops[0]).length; })()"
    )
    tab.page.locator(".tile").first.focus()
    for key, place in (("ArrowDown", columns), ("ArrowUp", 0), ("ArrowLeft", 0), ("End", len(ids) - 1), ("Home", 0)):
        tab.page.keyboard.press(key)
        assert tab.page.evaluate("document.activeElement.dataset.id") == ids[place], key
        box = tab.page.evaluate(
            "(() => { const b = document.activeElement.getBoundingClientRect(); return [b.top, b.bottom]; })()"
        )
        assert box[0] >= 0
        assert box[1] <= 900


def test_a_photo_that_cannot_be_shown_says_why(browse: Browse, page: Path) -> None:
    tab = browse(page)
    tab.page.get_by_label("Find by name or person").fill("photo-2.jpg")
    tick(tab, "answer", "wrong")
    assert "no such file" in tab.page.locator(".tile", has_text="expected a photo").first.inner_text()


def test_nothing_found_is_said(browse: Browse, page: Path) -> None:
    tab = browse(page)
    tab.page.get_by_label("Find by name or person").fill("nobody")
    assert tab.page.get_by_text("No photo has all of this").is_visible()
    assert tab.page.inner_text("#status") == "0 of 300 photos"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_is_readable_on_every_screen(browse: Browse, page: Path, width: int, dark: bool) -> None:
    tab = browse(page, width=width, dark=dark)
    assert not tab.is_wider_than_its_window()
    assert tab.faults() == []
    tab.page.locator(".tile").first.click()
    assert not tab.is_wider_than_its_window()
    assert tab.faults() == []


def test_five_thousand_photos_stay_responsive(browse: Browse, tmp_path: Path) -> None:
    """Only tiles in sight exist, and every filter leaves few of them; the time is the benchmark's."""
    large = face_case(seed=8, n_photos=5000)
    places = draw_places(tmp_path / "photos", 20)
    path = tmp_path / "large.html"
    write_gallery(path, large.facts, [places[row % 20] for row in range(5000)], title="x", scored_on="the photos")
    tab = browse(path)
    tab.page.evaluate("location.hash = 'show=all'")
    tab.page.wait_for_timeout(50)
    assert tab.page.inner_text("#status") == "5,000 photos"
    for place in (0, 20_000, 80_000):
        tab.page.evaluate(f"window.scrollTo(0, {place})")
        tab.page.wait_for_timeout(60)
        assert 10 < tab.page.locator(".tile").count() < 150
        assert tab.page.evaluate(
            "[...document.querySelectorAll('.tile')].some(t => { const b = t.getBoundingClientRect();"
            " return b.top < 700 && b.bottom > 300; })"
        )
    tab.page.evaluate("window.scrollTo(0, 0)")
    tick(tab, "true_age", ">=60")
    chosen = {"true_age": {">=60"}}
    expected = expected_ids(large, chosen)
    assert tab.page.inner_text("#status") == f"{len(expected):,} of 5,000 photos"
    tab.page.locator(".tile").first.focus()
    tab.page.keyboard.press("End")
    assert tab.page.evaluate("document.activeElement.dataset.id") == expected[-1]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A page of two random answers to 200 photos."""
    folder = tmp_path_factory.mktemp("comparison")
    random, schema = np.random.default_rng(3), face_schema()
    a = random.integers(0, 18, 200)
    b = np.where(random.random(200) < 0.5, a, random.integers(0, 18, 200))
    truth = np.where(random.random(200) < 0.5, b, a)
    report = compare_labels(np.array(sample_ids(200)), a, b, schema, truth=truth, names=("a.csv", "b.csv"))
    path = folder / "comparison.html"
    write_comparison(path, ComparisonFacts(report), draw_places(folder / "photos", 200))
    return path, report


def test_a_number_of_a_comparison_leads_to_its_photos(browse: Browse, two: tuple[Path, Any]) -> None:
    path, report = two
    tab = browse(path)
    assert tab.faults() == []
    names = report.schema.decode(report.a), report.schema.decode(report.b)
    ages = report.schema["age"].classes
    matrix = tab.page.get_by_role("group", name="age: a down, b across")
    for old, new in ((0, 1), (2, 0)):
        cell = matrix.locator("tbody tr").nth(old).locator("td").nth(new).locator("a")
        expected = [
            str(report.ids[row]) for row in range(200) if (names[0]["age"][row], names[1]["age"][row]) == (old, new)
        ]
        assert int(cell.inner_text()) == len(expected) > 0
        cell.click()
        assert shown_ids(tab) == expected
        assert f"age: a: {ages[old]}" in tab.page.inner_text("#chosen")


def test_a_comparison_shows_both_answers_of_a_photo(browse: Browse, two: tuple[Path, Any]) -> None:
    path, report = two
    tab = browse(path, width=390, dark=True)
    assert not tab.is_wider_than_its_window()
    row = int(report.differing[1])
    tab.page.evaluate(f"location.hash = 'photo={report.ids[row]}'")
    rows = tab.page.get_by_role("group", name="Answers").locator("tbody tr")
    for number, name in enumerate(report.schema.names):
        classes = report.schema[name].classes
        expected = [classes[report.schema.decode(side)[name][row]] for side in (report.truth, report.a, report.b)]
        cells = [text.removesuffix(" \u2713") for text in rows.nth(number).locator("td").all_inner_texts()]
        assert cells == expected
    assert tab.faults() == []


@pytest.mark.parametrize("chosen", [set(), {"wrong"}])
def test_paper_shows_whole_photos_and_tells_how_many(page: Path, browse: Browse, chosen: set[str]) -> None:
    """In the flow of the page, where none can be cut at the end of a sheet; more than fit are told."""
    tab = browse(page)
    if not chosen:
        tab.page.get_by_role("button", name="Answer: wrong").click()
    shown = int(tab.page.evaluate("document.getElementById('board').dataset.shown"))
    tab.page.emulate_media(media="print")
    tab.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    found = tab.page.evaluate(
        "[...document.querySelectorAll('.cell')].map(cell => [getComputedStyle(cell).position,"
        " getComputedStyle(cell).breakInside, cell.getBoundingClientRect().top])"
    )
    assert len(found) == min(shown, 120)
    assert {(position, inside) for position, inside, _ in found} == {("static", "avoid")}
    tops = [top for _, _, top in found]
    assert tops == sorted(tops)
    assert len(set(tops)) == -(-len(found) // 5)
    assert tab.page.locator("#printed").is_visible() == (shown > 120)
    tab.page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    tab.page.emulate_media(media="screen")
    assert not tab.page.locator("#printed").is_visible()
    assert len(shown_ids(tab)) == shown
