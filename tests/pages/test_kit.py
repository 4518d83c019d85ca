"""The page kit: everything escaped, one file, allowed scripts only, pictures that say what they are."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from ensemble_kit.errors import UsageError
from ensemble_kit.pages import element, environment, render, script_json, thumbnail, write_page
from ensemble_kit.pages import numbers as say
from ensemble_kit.pages.charts import (
    Bar,
    Bin,
    Line,
    draw_bars,
    draw_columns,
    draw_confusion,
    draw_confusion_picture,
    draw_differences,
    draw_flow,
    draw_lines,
    draw_reliability,
    draw_shares,
)
from ensemble_kit.shown import shown

EVIL = "</script><script>alert(1)</script>\"'<img src=x onerror=alert(2)>&amp;\u2028"


def pictures(name: str, about: str) -> dict[str, Markup]:
    """Every picture, with one name wherever a user's name can stand."""
    counts = np.array([[5, 1, 0], [2, 7, 1]])
    square = np.array([[5, 1], [2, 7]])
    return {
        "bars": draw_bars([Bar(name, 0.5, (0.4, 0.6), note=name), Bar("b", 0.2)], name, about),
        "differences": draw_differences([Bar(name, -0.1, (-0.2, 0.1), note=name)], name, about),
        "lines": draw_lines(
            [Line(name, [1, 2, 3], [0.1, float("nan"), 0.3], marked=[(3, 0.3, name)], band=([0, 0, 0], [1, 1, 1]))],
            name,
            about,
            x_name=name,
            y_name=name,
        ),
        "confusion": draw_confusion(counts, [name, "b"], name),
        "confusion picture": draw_confusion_picture(square, [name, "b"], name, about),
        "reliability": draw_reliability([Bin(0.5, 0.4, 9), Bin(0, 0, 0)], name, about),
        "flow": draw_flow([(name, [name, "b"]), ("to", [name, "d"])], [square], name, about),
        "shares": draw_shares([(name, [1, 2])], [name, "b"], name, about),
        "columns": draw_columns({20: 3, 31: 1}, name, about, x_name=name, y_name=name, borders=[30]),
    }


class Elements(HTMLParser):
    """Names of the elements and of their attributes, as a browser would find them."""

    def __init__(self, text: str):
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs


@pytest.fixture
def filled() -> dict[str, Any]:
    return {"title": "A page", "kind": "test", "version": "1"}


@pytest.mark.parametrize("kind", pictures("a", "b"))
def test_no_name_becomes_an_element_of_a_picture(kind: str) -> None:
    evil, plain = Elements(pictures(EVIL, EVIL)[kind]), Elements(pictures("a", "b")[kind])
    assert set(evil.names) == set(plain.names)
    assert {name for name, _ in evil.attributes} == {name for name, _ in plain.attributes}
    assert not {name for name, _ in plain.attributes} & {"style", "onclick", "href"}


@pytest.mark.parametrize("kind", sorted(set(pictures("a", "b")) - {"confusion"}))
def test_a_picture_has_a_title_and_a_description(kind: str) -> None:
    found = pictures("My title", "What it shows")[kind]
    assert 'role="img"' in found
    assert "<title>My title</title><desc>What it shows</desc>" in found


def test_a_picture_of_nothing_is_drawn() -> None:
    nothing = np.zeros((2, 2), np.int64)
    draw_bars([], "", "")
    draw_lines([Line("a", [], [])], "", "", x_name="", y_name="")
    draw_reliability([], "", "")
    draw_flow([("", ["a", "b"]), ("", ["c", "d"])], [nothing], "", "")
    draw_shares([("a", [0, 0])], ["x", "y"], "", "")
    draw_columns({}, "", "", x_name="", y_name="")
    draw_confusion_picture(nothing, ["a", "b"], "", "")
    assert "<td" in draw_confusion(nothing, ["a", "b"], "")


def test_the_table_of_confusion_holds_the_counts_and_the_abstained_where_there_are_any() -> None:
    found = draw_confusion(np.array([[1500, 0, 2], [1, 3, 0]]), ["a", "b"], "c")
    assert re.findall(r"<td[^>]*>([\d,]+)", found) == ["1,500", "0", "2", "1", "3", "0"]
    assert "abstained" not in draw_confusion(np.array([[1, 0, 0], [0, 1, 0]]), ["a", "b"], "c")


def test_bands_of_a_flow_say_their_photos() -> None:
    found = draw_flow([("t", ["a", "b"]), ("p", ["c", "d"])], [np.array([[1234, 0], [1, 3]])], "", "")
    assert re.findall(r"<title>(\w+ → \w+: [^<]*)", found) == [
        "a → c: 1,234 photos",
        "b → c: 1 photo",
        "b → d: 3 photos",
    ]
    with pytest.raises(UsageError, match="flow: expected tables"):
        draw_flow([("t", ["a"]), ("p", ["c"])], [np.zeros((2, 1), np.int64)], "", "")


@given(st.text())
def test_json_in_a_script_ends_no_script_and_reads_back(text: str) -> None:
    found = str(script_json({"a": [text, EVIL + text]}))
    assert not set(found) & set("<>&\u2028\u2029")
    assert json.loads(found) == {"a": [text, EVIL + text]}


@given(st.text(), st.floats(allow_nan=False))
def test_elements_escape_children_and_attributes(text: str, number: float) -> None:
    found = Elements(element("p", text, EVIL, title=text + EVIL, x=number))
    assert found.names == ["p"]
    assert [name for name, _ in found.attributes] == ["title", "x"]


def test_the_environment_escapes_and_misses_nothing_silently() -> None:
    assert environment().from_string("{{ a }}").render(a=EVIL) == str(Markup("{}").format(shown(EVIL)))
    with pytest.raises(Exception, match="undefined"):
        environment().from_string("{{ a }}").render()


def test_a_page_is_one_file_that_allows_only_its_own_scripts(filled: dict[str, Any]) -> None:
    text = render("pages/templates/base.html", **filled | {"title": EVIL, "sections": [("a", EVIL)]})
    found = Elements(text)
    addresses = [value for name, value in found.attributes if name in ("href", "src", "action")]
    assert all(str(address).startswith(("#", "data:")) for address in addresses)
    assert not re.search(r"https?://(?!www\.w3\.org)|@import|url\(", text)
    assert found.names.count("script") == 1
    policy = next(str(value) for name, value in found.attributes if name == "content" and "default-src" in str(value))
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert len(re.findall(r"sha256-[\w+/=]{44}", policy)) == 2
    assert "style" not in {name for name, _ in found.attributes}


def test_a_page_replaces_pages_and_nothing_else(tmp_path: Path, filled: dict[str, Any]) -> None:
    page = tmp_path / "a" / "page.html"
    for _ in range(2):
        assert write_page(page, "pages/templates/base.html", **filled) == page
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]
    other = tmp_path / "run.json"
    other.write_text("{}")
    with pytest.raises(UsageError, match="is there and is no page"):
        write_page(other, "pages/templates/base.html", **filled)
    with pytest.raises(UsageError, match="found a folder"):
        write_page(tmp_path, "pages/templates/base.html", **filled)
    with pytest.raises(UsageError, match="would be overwritten"):
        write_page(page, "pages/templates/base.html", inputs=[tmp_path / "a" / ".." / "a" / "page.html"], **filled)
    assert other.read_text() == "{}"


def test_the_files_of_the_kit_are_in_the_package() -> None:
    from importlib.resources import files

    kit = files("ensemble_kit") / "pages"
    assert all((kit / name).is_file() for name in ("kit.css", "kit.js", "templates/base.html", "templates/kit.html"))


@pytest.mark.parametrize(("kind", "start"), [("webp", b"RIFF"), ("jpeg", b"\xff\xd8")])
def test_a_thumbnail_is_a_small_photo_in_the_page(tmp_path: Path, kind: str, start: bytes) -> None:
    from base64 import b64decode

    photo = np.random.default_rng(0).integers(0, 255, (200, 100, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), photo)
    address = thumbnail(tmp_path / "a.png", 40, kind=kind)
    assert address.startswith(f"data:image/{kind};base64,")
    data = b64decode(address.split(",")[1])
    assert data.startswith(start)
    assert np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)).shape == (40, 20, 3)


def test_a_thumbnail_keeps_a_small_photo_and_its_colours(tmp_path: Path) -> None:
    from base64 import b64decode

    red = np.zeros((8, 6, 3), np.uint8)
    red[..., 2] = 255
    cv2.imwrite(str(tmp_path / "a.png"), red)
    data = b64decode(thumbnail(tmp_path / "a.png", quality=100).split(",")[1])
    found = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    assert found.shape == (8, 6, 3)
    assert np.abs(found.astype(int) - red).max() < 20
    with pytest.raises(UsageError, match="thumbnail: expected"):
        thumbnail(tmp_path / "a.png", 0)


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_side_is_named_where_the_whole_interval_has_it(value: float, below: float, above: float) -> None:
    side = say.side_of((value - below, value + above))
    assert (side == 1) == (value - below > 0)
    assert (side == -1) == (value + above < 0)


@given(st.floats(-9, 9))
def test_numbers_read_back_and_have_one_minus(value: float) -> None:
    for text in (say.score(value), say.signed(value)):
        assert "-" not in text
        assert abs(float(text.replace("−", "-")) - value) <= 0.0005 + 1e-9
    assert say.signed(value)[0] in ("+", "−") or float(say.signed(value)) == 0


@given(st.floats(1e-3, 1e3))
def test_differences_always_have_numbers_at_both_sides_of_zero(reach: float) -> None:
    drawn = str(draw_differences([Bar("a", reach / 2, (-reach, reach))], "t", "d"))
    marks = [float(text.replace("−", "-")) for text in re.findall(r'class="soft small">([^<]*)<', drawn)]
    assert min(marks) == -max(marks) < 0
    assert 0 in marks
    assert max(marks) > reach / 2.5
