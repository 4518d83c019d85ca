"""Bars with intervals, one a row: scores and differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ensemble_kit.pages.charts.frame import (
    SMALL,
    WIDTH,
    line,
    name_in,
    sheet,
    ticks,
    ticks_around,
    tone,
    width_of,
    words,
)
from ensemble_kit.pages.markup import element, joined
from ensemble_kit.pages.numbers import Interval, difference, estimate

ROW, TALL, THICK, HEAD = 26, 44, 12, 8
BESIDE = 130.0
"""Pixels of a name that still stands beside its bar."""


@dataclass(frozen=True)
class Bar:
    """One row: a value with its interval (None = not known). `number`: its colour; `note`: told on pointing."""

    name: str
    value: float
    interval: Interval | None = None
    number: int = 0
    note: str = ""


def draw_bars(
    bars: Sequence[Bar],
    title: str,
    about: str,
    *,
    limits: tuple[float, float] | None = None,
    write: Callable[[float, Interval | None], str] = estimate,
) -> Markup:
    """Scores as bars from 0, each with its interval as a whisker and its number at the right.

    Args:
        limits: of the axis; default 0 to 1, or to the highest value where there are higher ones.
    """
    if limits is None:
        limits = (0.0, max([1.0, *(_ends(bar)[1] for bar in bars)]))
    return _draw(bars, title, about, limits, write, dots=False)


def draw_differences(
    bars: Sequence[Bar],
    title: str,
    about: str,
    *,
    write: Callable[[float, Interval | None], str] = difference,
) -> Markup:
    """Differences as points with intervals beside a line at 0: what reaches over the line is no difference shown."""
    reach = max([0.01, *(abs(end) for bar in bars for end in _ends(bar))]) * 1.05
    return _draw(bars, title, about, (-reach, reach), write, dots=True)


def _ends(bar: Bar) -> tuple[float, float]:
    low, high = bar.interval or (bar.value, bar.value)
    return min(low, bar.value), max(high, bar.value)


def _draw(
    bars: Sequence[Bar],
    title: str,
    about: str,
    limits: tuple[float, float],
    write: Callable[[float, Interval | None], str],
    dots: bool,
) -> Markup:
    """Names stand at the left, or, where one is too long for that, each above its bar."""
    written = [write(bar.value, bar.interval) for bar in bars]
    right = max([0.0, *(width_of(text, SMALL) for text in written)]) + 14
    longest = max([20.0, *(width_of(bar.name) for bar in bars)])
    is_above = longest > BESIDE
    row = TALL if is_above else ROW
    start, stop = 8.0 if is_above else longest + 14, WIDTH - right
    bottom = HEAD + row * len(bars)

    def across(value: float) -> float:
        return start + (stop - start) * min(1.0, max(0.0, (value - limits[0]) / (limits[1] - limits[0])))

    parts: list[Markup] = []
    for value in _marks(limits, stop - start, dots):
        parts.append(line(across(value), HEAD, across(value), bottom, "grid"))
        parts.append(words(across(value), bottom + 15, _mark(value), "middle", "soft small"))
    parts.append(line(across(0), HEAD, across(0), bottom + 3, "axis"))
    for number, (bar, text) in enumerate(zip(bars, written, strict=True)):
        top = HEAD + row * number
        if is_above:
            name, middle = name_in(8, top + 20, bar.name, WIDTH - 16, class_="halo"), top + 26 + THICK / 2
        else:
            middle = top + row / 2
            name = words(longest + 6, middle + 4, bar.name, "end")
        parts.append(_row(bar, text, name, middle, across, dots))
    return sheet(WIDTH, bottom + 22, title, about, *parts)


def _marks(limits: tuple[float, float], width: float, dots: bool) -> list[float]:
    """Round numbers below the bars: at both sides of 0 where there are differences, of too many the outermost."""
    if not dots:
        return ticks(*limits, most=5)
    found = ticks_around(limits[1])
    needed = (max(width_of(_mark(value), 11) for value in found) + 8) * limits[1] / (found[1] - found[0])
    return found if needed * 2 < width else [found[0], 0.0, found[-1]]


def _mark(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _row(bar: Bar, text: str, name: Markup, middle: float, across: Callable[[float], float], dots: bool) -> Markup:
    zero, at = across(0), across(bar.value)
    low, high = (across(end) for end in _ends(bar))
    told = f"{bar.name}: {text}{f'; {bar.note}' if bar.note else ''}"
    colour = tone("f", bar.number)
    parts = [element("title", told), name]
    if not dots:
        box = {"x": min(zero, at), "y": middle - THICK / 2, "width": abs(at - zero), "height": THICK}
        parts.append(element("rect", **box, rx=2, class_=colour))
    if bar.interval is not None:
        parts.append(line(low, middle, high, middle, "whisker"))
        parts += [line(end, middle - 4, end, middle + 4, "whisker") for end in (low, high)]
    if dots:
        parts.append(element("circle", cx=at, cy=middle, r=5, class_=colour))
    parts.append(words(WIDTH - 2, middle + 4, text, "end", "small"))
    return element("g", joined(parts))
