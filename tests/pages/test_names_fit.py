"""Names of any length in pictures: drawn inside the picture, by the widest of the usual fonts, and told whole."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageFont

from ensemble_kit.pages.charts import (
    Bar,
    Line,
    draw_bars,
    draw_columns,
    draw_confusion_picture,
    draw_differences,
    draw_flow,
    draw_lines,
    draw_shares,
)
from ensemble_kit.pages.charts.frame import cut, width_of

LONG = [
    "worn over the nose and the mouth and the chin, as it should be",
    "INCORRECTLY_WORN_WITH_THE_NOSE_OR_THE_MOUTH_LEFT_UNCOVERED_60",
    "WMWMWMWMWMWMWMWMWMWMWMWMWMWMWMWMWMWMWMWMWMWMWMWMWMWMWMWMWMWM",
]
JOINT = [" / ".join([one, "female", other]) for one, other in zip(LONG, LONG[1:] + LONG[:1], strict=True)]
MANY = [" / ".join([f"part {k} of many parts"] * 12) for k in range(3)]
TEXT = re.compile(r'<text x="([-\d.]+)" y="[-\d.]+"(?: text-anchor="(\w+)")?(?: class="([^"]*)")?>(.*?)</text>')


@cache
def font() -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", 120)


def measured(text: str, size: float) -> float:
    return float(font().getlength(text)) * size / 120


COUNTS = np.arange(9).reshape(3, 3) + 1
PICTURES: dict[str, Callable[[list[str]], str]] = {
    "bars": lambda names: draw_bars([Bar(name, 0.5, (0.4, 0.6)) for name in names], "t", "a"),
    "differences": lambda names: draw_differences([Bar(name, 0.5, (0.4, 0.6)) for name in names], "t", "a"),
    "shares": lambda names: draw_shares([(name, [1, 2, 3]) for name in names], names, "t", "a"),
    "columns": lambda names: draw_columns({20.0: 3, 30.0: 4}, "t", "a", x_name=names[0], y_name=names[0]),
    "lines": lambda names: draw_lines(
        [Line(name, [1, 2], [0.1, 0.2]) for name in names], "t", "a", x_name=names[0], y_name=names[0]
    ),
    "confusion": lambda names: draw_confusion_picture(np.eye(21, dtype=np.int64), names * 7, "t", "a"),
    "flow": lambda names: draw_flow([(names[0], names)] * 3, [COUNTS, COUNTS], "t", "a"),
}


@pytest.mark.parametrize("names", [LONG, JOINT, MANY], ids=["words", "joint", "many"])
@pytest.mark.parametrize("kind", list(PICTURES))
def test_no_word_leaves_the_picture_and_names_are_told_whole(kind: str, names: list[str]) -> None:
    svg = str(PICTURES[kind](names))
    found = re.search(r'viewBox="0 0 ([\d.]+) ', svg)
    assert found
    width, texts = float(found[1]), TEXT.findall(svg)
    assert texts
    for at, align, class_, inside in texts:
        shown = unescape(re.sub("<title>.*?</title>", "", inside))
        wide = measured(shown, 11 if "small" in class_.split() else 12)
        left = float(at) - {"": 0.0, "start": 0.0, "middle": wide / 2, "end": wide}[align]
        assert left >= -0.5, shown
        assert left + wide <= width + 0.5, shown
    titles = [unescape(title) for title in re.findall("<title>(.*?)</title>", svg)]
    wanted = names[:1] if kind == "columns" else names
    assert [name for name in wanted if not any(name in title for title in titles)] == []


@given(st.text(st.characters(max_codepoint=0x17F, categories=["L", "Nd", "P", "Zs", "Sm"]), max_size=40))
@settings(max_examples=60, deadline=None)
def test_words_are_no_wider_than_they_are_taken_for(text: str) -> None:
    assert measured(text, 12) <= width_of(text) * 1.08 + 2
    for room in (30.0, 90.0):
        assert width_of(cut(text, room)) <= max(room, width_of("…"))
