"""How often answers of a confidence are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ensemble_kit.pages.charts.frame import Axes, path, sheet, ticks, words
from ensemble_kit.pages.markup import element
from ensemble_kit.pages.numbers import score

SIDE = 340
FEW = 0.005
"""Bins with a smaller share of the answers stand as dots beside the line: one photo says little."""


@dataclass(frozen=True)
class Bin:
    """Answers of about one confidence: their mean confidence, the share that is right, how many they are."""

    confidence: float
    accuracy: float
    n: int


def draw_reliability(bins: Sequence[Bin], title: str, about: str) -> Markup:
    """A point a bin, as large as it has answers, beside the diagonal on which confidence is what it says it is.

    Bins without answers are left out; below stand the shares of all answers.
    """
    filled = [one for one in bins if one.n]
    most = max([1, *(one.n for one in filled)])
    axes = Axes(44, 30, SIDE - 14, SIDE - 56, (0, 1), (0, 1))
    parts: list[Markup] = [
        axes.drawn("confidence of the answer", "share right", ticks(0, 1), ticks(0, 1)),
        path([axes.at(0, 0), axes.at(1, 1)], "ideal"),
    ]
    joined = [one for one in filled if one.n >= FEW * sum(other.n for other in filled)]
    if len(joined) > 1:
        parts.append(path((axes.at(one.confidence, one.accuracy) for one in joined), "line s0"))
    for one in filled:
        x, y = axes.at(one.confidence, one.accuracy)
        told = f"{one.n:,} answers of confidence {score(one.confidence, 2)}: {score(one.accuracy, 2)} right"
        parts.append(
            element("circle", element("title", told), cx=x, cy=y, r=3 + 6 * (one.n / most) ** 0.5, class_="f0")
        )
    parts.append(words(axes.across(0.02), axes.top + 14, "too unsure", "start", "soft small"))
    parts.append(words(axes.across(0.98), axes.bottom - 8, "too sure", "end", "soft small"))
    return sheet(SIDE, SIDE - 16, title, about, *parts)
